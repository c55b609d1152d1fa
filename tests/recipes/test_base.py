"""Runs of every stage: trained, interrupted and gone on, reused, opened, judged."""

import json
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thinkrank._lock import locked
from thinkrank.data import Requests
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import read_comparisons, read_results
from thinkrank.evaluate.per_sample import FILE
from thinkrank.recipes import EvaluationOptions, Layers, Preset, evaluate, open_run, report_training, train
from thinkrank.recipes.answering import recommend
from thinkrank.recipes.base import recipe_of, validations_of
from thinkrank.recipes.comparing import compared
from thinkrank.recipes.layers import toml_of, validated
from thinkrank.recipes.plan import UNKNOWN
from thinkrank.recipes.ranking import rank_settings
from thinkrank.recipes.reranking import rerank_settings
from thinkrank.recipes.retrieval import retrieve_settings
from thinkrank.recipes.running import planned
from thinkrank.retrieve.r2ec import recpo, trainer
from thinkrank.retrieve.r2ec.contrastive import ContrastiveTrainer
from thinkrank.testing import refused
from thinkrank.training import no_progress
from thinkrank.training.rehearsal import SHARE

SHOP = ["users=30", "items=40", "styles=8", "kinds=8", "events=8"]
TINY = ["model.backbone=tiny", "model.dtype=float32"]
SETTINGS: dict[str, Any] = {
    "retrieve": retrieve_settings(
        Preset.thoughts,
        Layers(
            source="synthetic",
            options=SHOP,
            assignments=[
                *TINY, "model.thought.max_new_tokens=3", "training.steps=3", "training.checkpoint_every=1",
                "training.validate_every=3", "recpo.steps=2", "recpo.users=2", "recpo.group_size=2",
                "recpo.rollout.max_new_tokens=3", "recpo.validate_every=2", "recpo.checkpoint_every=1",
            ],
        ),
    ),
    "rank": rank_settings(
        Layers(
            source="synthetic",
            options=SHOP,
            assignments=[
                *TINY, "model.lora.rank=2", "model.thought.max_new_tokens=90", "model.prompt.history_window=3",
                "traces.lists=12", "cold_start.steps=2", "cold_start.users=2", "cold_start.validation_samples=2",
                "cold_start.checkpoint_every=1", "candidates.size=4", "reinforce.steps=2", "reinforce.users=2",
                "reinforce.negatives=2", "reinforce.group_size=2", "reinforce.rollout.max_new_tokens=3",
                "reinforce.validation_samples=2", "reinforce.checkpoint_every=1",
            ],
        ),
    ),
    "rerank": rerank_settings(
        Layers(
            source="synthetic",
            options=["users=20", "lists=300"],
            assignments=[
                "model.generator.width=8", "model.generator.heads=2", "evaluator.steps=3", "warm_start.steps=3",
                "evaluator.checkpoint_every=1", "warm_start.checkpoint_every=1", "grpo.checkpoint_every=1",
                "grpo.steps=2", "grpo.batch_size=4", "grpo.group_size=2", "grpo.failed_check=warn", "grpo.length=4",
                "evaluator.validation_lists=20", "warm_start.validation_lists=20", "grpo.validation_lists=20",
            ],
        ),
    ),
}  # fmt: skip
INSIDE = {
    "retrieve": {"warm-start", "recpo", "checkpoints", "metrics.jsonl"},
    "rank": {"cold-start", "reinforce", "traces.jsonl", "checkpoints", "metrics.jsonl"},
    "rerank": {"evaluator", "warm-start", "grpo"},
}
stages = pytest.mark.parametrize("stage", list(SETTINGS))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run of each stage, trained when a test first asks for it."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def run(stage: str) -> Path:
        if stage not in made:
            made[stage] = folder / stage
            train(recipe(stage), SETTINGS[stage], made[stage], device="cpu")
        return made[stage]

    return run


def recipe(stage: str):
    from thinkrank.recipes import ranking, reranking, retrieval

    return {"retrieve": retrieval, "rank": ranking, "rerank": reranking}[stage].RECIPE


def sized(stage):
    """Return the settings of a run, fitted to its data."""
    return recipe(stage).sized(SETTINGS[stage], SETTINGS[stage].data.load_split())


def weights(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((folder / "model").glob("*.safetensors"))}


@contextmanager
def interrupting(title: str, total: int):
    """A progress that is interrupted after the first training step, as by Ctrl-C."""

    def advance(n: int = 1, note: str = "") -> None:
        if note and title != "writing traces":
            raise KeyboardInterrupt

    yield advance


@stages
def test_a_run_holds_its_settings_its_phases_and_its_model(runs, stage):
    folder = runs(stage)
    assert {path.name for path in folder.iterdir()} == {"config.toml", "manifest.json", "model"} | INSIDE[stage]
    assert recipe(stage).settings.from_run(folder) == sized(stage)
    assert recipe_of(folder) is recipe(stage)


@stages
def test_an_interrupted_run_goes_on_to_the_same_weights(runs, stage, tmp_path):
    expected, interruptions = weights(runs(stage)), 0
    for _ in range(9):
        try:
            train(recipe(stage), SETTINGS[stage], tmp_path, device="cpu", progress=interrupting)
        except KeyboardInterrupt:
            interruptions += 1
        else:
            break
    assert interruptions == {"retrieve": 5, "rank": 4, "rerank": 8}[stage]  # after every step
    assert weights(tmp_path) == expected


@stages
def test_a_finished_run_is_loaded_and_not_trained_again(runs, stage, caplog):
    @contextmanager
    def refused(title: str, total: int):
        raise AssertionError(f"{title} begins anew")

    folder = runs(stage)
    before = weights(folder)
    with caplog.at_level("INFO", logger="thinkrank"):
        _, model = train(recipe(stage), SETTINGS[stage], folder, device="cpu", progress=refused)
    assert "reusing it" in caplog.text
    assert weights(folder) == before
    assert hasattr(model, stage)


@stages
def test_a_run_that_was_stopped_is_not_opened_but_told_how_to_go_on(stage, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(recipe(stage), SETTINGS[stage], tmp_path, device="cpu", progress=interrupting)
    with pytest.raises(ThinkrankError, match=f"start `thinkrank train {stage}` again"):
        open_run(tmp_path)


@stages
def test_an_opened_run_is_judged_and_the_figures_do_not_change(runs, stage):
    opened = open_run(runs(stage), device="cpu")
    assert opened.settings == sized(stage)
    options = EvaluationOptions(samples=12, best_of=2)
    judged = evaluate(opened, options)
    again = evaluate(open_run(runs(stage), device="cpu"), options)
    assert again.rows == judged.rows == read_results(runs(stage) / "results.json")
    kept = read_comparisons(runs(stage) / "comparisons.json")
    assert list(kept.comparisons) == list(judged.comparisons)
    assert kept.protocol["cut-offs"]
    assert {row.reference for row in kept.comparisons} == set(opened.recipe.references)
    for validation in validations_of(opened):
        assert 0 <= validation.value <= 1
    assert "<h2>Results</h2>" in (runs(stage) / "report.html").read_text(encoding="utf-8")


def test_what_was_judged_is_kept_whatever_comes_behind_it(runs, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("thinkrank.recipes.evaluation.measured", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate(open_run(runs("retrieve"), device="cpu"), EvaluationOptions(samples=12), out=tmp_path)
    assert {"results.json", "comparisons.json", "per_sample.safetensors"} <= {file.name for file in tmp_path.iterdir()}


def test_a_catalogue_too_large_for_pairs_is_judged_beside_popularity_alone(runs, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("thinkrank.recipes.baselines.MOST_PAIRED_ITEMS", 5)
    for stage in ("retrieve", "rank"):
        judged = evaluate(open_run(runs(stage), device="cpu"), EvaluationOptions(samples=12), out=tmp_path / stage)
        assert "popularity" in judged.evaluation.systems
        assert "item-kNN" not in judged.evaluation.systems
        assert {row.reference for row in judged.comparisons} == {"popularity"}
        assert (tmp_path / stage / "report.html").is_file()
    assert "item-kNN would hold a number for each pair, left out" in caplog.text


def test_figures_of_what_was_trained_carry_the_run_s_seed(runs):
    systems = evaluate(open_run(runs("retrieve"), device="cpu"), EvaluationOptions(samples=6, untrained=True)).rows
    seeds = {row.system: row.seeds for row in systems}
    assert seeds["R²ec, no thought"] == (0,)
    assert {name for name, of_system in seeds.items() if not of_system} == {"popularity", "item-kNN", "R²ec, untrained"}


def test_several_thoughts_and_what_stands_in_their_place_cost_the_same(runs):
    asked = EvaluationOptions(samples=6, think=True, thoughts=2, controls=True)
    for stage, name in (("retrieve", "R²ec, thought first"), ("rank", "R2Rank")):
        opened = open_run(runs(stage), device="cpu")
        options = asked.model_copy(update={"think": stage == "retrieve"})
        systems = opened.recipe.systems(opened.settings, opened.split, opened.model, options, no_progress)
        chosen = {key: system for key, system in systems.items() if key.startswith(name)}
        assert [*chosen][-1] == name
        assert {*chosen} == {name, f"{name}: as many empty words", f"{name}: the thought about another"}
        questions = opened.recipe.questions(opened.settings, opened.split, options)
        judged = opened.recipe.judge(chosen, questions, options, no_progress)
        tokens = [judged.cost[key].tokens for key in chosen]
        assert 0 < tokens[-1] / 2 <= min(tokens)
        assert max(tokens) == tokens[-1]  # what stands in the place has no stop
    retriever = open_run(runs("retrieve"), device="cpu")
    with refused("add --think"):
        evaluate(retriever, EvaluationOptions(samples=6, thoughts=2))
    with refused("writes no thoughts"):
        evaluate(open_run(runs("rerank"), device="cpu"), EvaluationOptions(controls=True))


def test_a_re_ranker_is_judged_when_its_training_ends_on_every_test_list(runs):
    opened = open_run(runs("rerank"), device="cpu")
    report_training(opened)
    rows = read_results(runs("rerank") / "results.json")
    assert {row.system for row in rows} == {"displayed order", "best possible order", "EGLR, no thinking", "EGLR"}
    assert {row.n for row in rows if row.metric == "ndcg@10"} == {len(opened.split.test)}


def test_the_report_of_a_run_tells_of_a_run_inside_its_folder(runs):
    folder = runs("retrieve")
    report_training(open_run(folder, device="cpu"))
    assert "Re-ranker</h2>" not in (folder / "report.html").read_text(encoding="utf-8")
    train(recipe("rerank"), SETTINGS["rerank"], folder / "anywhere", device="cpu")
    report_training(open_run(folder, device="cpu"))
    assert "Re-ranker</h2>" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("stage", "option"), [("rank", "think"), ("rerank", "seen"), ("rerank", "sasrec")])
def test_options_of_another_stage_are_refused(runs, stage, option):
    with pytest.raises(ThinkrankError, match=r"belong to retrievers|cannot order displayed lists"):
        evaluate(open_run(runs(stage), device="cpu"), EvaluationOptions(**{option: True}))


def test_a_folder_that_is_no_run_is_told(tmp_path):
    with pytest.raises(ThinkrankError, match="no run here"):
        open_run(tmp_path)
    (tmp_path / "config.toml").write_text("[data]\nsource = 'table'\n", encoding="utf-8")
    with pytest.raises(ThinkrankError, match="of none of the stages"):
        open_run(tmp_path)


def test_an_opened_retriever_answers(runs):
    opened = open_run(runs("retrieve"), device="cpu")
    requests = Requests(opened.split.test.histories()[:3])
    ranking = opened.model.retrieve(requests, 4)
    assert ranking.items_BK.shape == (3, 4)
    manifest = json.loads((opened.run.folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["split"] == json.loads(json.dumps(opened.split.manifest()))
    assert np.isfinite(ranking.scores_BK).all()


@pytest.fixture(scope="module")
def fused_run(tmp_path_factory):
    """A finished run of the preset that reads late and fuses."""
    given = Layers(source="synthetic", options=SHOP, assignments=[*TINY, "model.lora.top_layers=1", "training.steps=3"])
    folder = tmp_path_factory.mktemp("fused") / "run"
    train(recipe("retrieve"), retrieve_settings(Preset.thinkrank, given), folder, device="cpu")
    return folder


def test_a_fused_run_answers_with_all_parts_and_each_is_judged(fused_run):
    opened = open_run(fused_run, device="cpu")
    assert opened.settings.training.validate_every == 1  # fitted to three steps
    crowd = opened.settings.crowd
    assert crowd[:3] == ("popularity", "item-kNN", "EASE")
    assert crowd[-1] == "ALS"  # and text between them, where its encoder is installed
    judged = evaluate(opened, EvaluationOptions(samples=20, parts=True))
    systems = judged.evaluation.systems
    assert systems[: len(crowd) + 1] == (*crowd, "R²ec, no thought")
    assert systems[len(crowd) + 1] == "R²ec and the crowd, without popularity"
    assert systems[-1] == "R²ec and the crowd"
    alone = judged.evaluation.answers["R²ec, no thought"].ranks_S
    reader = opened.model.parts["R²ec"]
    samples = judged.questions
    assert alone.tolist() == reader.target_ranks(samples.requests(), samples.targets).tolist()
    fused = judged.evaluation.answers["R²ec and the crowd"].ranks_S
    assert fused.tolist() == opened.model.target_ranks(samples.requests(), samples.targets).tolist()


def test_a_fused_run_recommends_without_a_thought(fused_run):
    answer = recommend(fused_run, user=str(open_run(fused_run).split.dataset.users[0]), k=3)
    assert answer.ranking.items_BK.shape == (1, 3)
    assert not answer.ranking.thoughts
    with pytest.raises(ThinkrankError, match="writes no thoughts"):
        recommend(fused_run, user=str(open_run(fused_run).split.dataset.users[0]), think=True)


def test_a_measured_run_is_told_its_plan_and_keeps_what_was_chosen(tmp_path, caplog):
    """What nobody gave may change; the run holds it, goes on with it, and ends as one that was not measured."""
    settings = SETTINGS["retrieve"]
    with caplog.at_level("INFO", logger="thinkrank"), pytest.raises(KeyboardInterrupt):
        train(recipe("retrieve"), settings, tmp_path / "run", device="cpu", progress=interrupting, measure=True)
    (plan,) = [line for line in caplog.messages if " GB" in line]
    assert plan.startswith("30 users, 40 items, ")
    for part in ("warm start 3 steps ≈ ", "RecPO 2 steps ≈ ", " validations ≈ "):
        assert part in plan
    kept = recipe("retrieve").settings.from_run(tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["measured"].keys() == {"Warm start", "RecPO"}
    assert "training.steps" in manifest["given"]
    train(recipe("retrieve"), settings, tmp_path / "run", device="cpu")
    train(recipe("retrieve"), kept, tmp_path / "plain", device="cpu")
    assert weights(tmp_path / "run") == weights(tmp_path / "plain")  # measuring left the model as it was


@stages
def test_a_plan_writes_nothing(stage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = SETTINGS[stage]
    plan = planned(recipe(stage), settings, settings.data.load_split(), device="cpu", seconds=0.1)
    assert " steps ≈ " in plan.text
    assert UNKNOWN not in plan.text
    for part in (" h)", " tokens · ", " GB of memory · ", " MB on disk"):
        assert part in plan.text
    assert min(plan.figures["hours"], plan.figures["device_bytes"], plan.figures["disk_bytes"]) > 0
    assert (plan.figures["tokens"] > 0) == (stage in ("retrieve", "rank"))
    assert validated(type(settings), tomllib.loads(toml_of(plan.settings))) == plan.settings
    assert not list(tmp_path.iterdir())


def test_validations_of_a_whole_run_with_recpo_take_a_fifth_of_its_time_at_most(tmp_path, monkeypatch):
    """By a clock on which a step takes a second or three, encoding the items one, and validating a sample a tenth."""
    clock = {"now": 0.0, "validating": 0.0}

    def costs(where, name, seconds, of_validation=False):
        real = getattr(where, name)

        def timed(*told, **named):
            spent = seconds(*told)
            clock["now"] += spent
            clock["validating"] += spent if of_validation else 0.0
            return real(*told, **named)

        monkeypatch.setattr(where, name, timed)

    costs(ContrastiveTrainer, "update", lambda *told: 1.0)
    costs(recpo, "write_thoughts", lambda *told: 3.0)
    costs(trainer.RetrieverTrainer, "refresh", lambda *told: 1.0, of_validation=True)
    costs(trainer, "sample_ranks", lambda model, samples, thoughts=None: len(samples) / 10, of_validation=True)
    monkeypatch.setattr(time, "perf_counter", lambda: clock["now"])
    given = Layers(
        source="synthetic",
        options=["users=120", "items=40", "styles=8", "kinds=8", "events=8"],
        assignments=[
            *TINY, "model.thought.max_new_tokens=2", "training.steps=60", "training.batch_size=1",
            "training.refresh_every=1000", "recpo.steps=40", "recpo.users=1", "recpo.group_size=2",
            "recpo.rollout.max_new_tokens=2", "recpo.refresh_every=1000", "training.checkpoint_every=100",
            "recpo.checkpoint_every=100",
        ],
    )  # fmt: skip
    settings = retrieve_settings(Preset.thoughts, given)

    def share(*, measure):
        begun = {}

        @contextmanager
        def beginning(title, total):
            if title.startswith("warm start"):
                begun.update(dict(clock) if not begun else {})  # what was rehearsed before is not of the run
            yield lambda *told, **named: None

        train(recipe("retrieve"), settings, tmp_path / str(measure), device="cpu", progress=beginning, measure=measure)
        return (clock["validating"] - begun["validating"]) / (clock["now"] - begun["now"])

    assert share(measure=True) <= SHARE < share(measure=False)


def test_a_start_that_failed_leaves_the_folder_to_the_next_command(tmp_path):
    wrong = SETTINGS["retrieve"].model_copy(
        update={"model": SETTINGS["retrieve"].model.model_copy(update={"backbone": "no/such/folder/here"})}
    )
    with pytest.raises(ThinkrankError, match="no such model folder"):
        train(recipe("retrieve"), wrong, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    with pytest.raises(KeyboardInterrupt):
        train(recipe("retrieve"), SETTINGS["retrieve"], tmp_path / "run", device="cpu", progress=interrupting)


def test_a_second_training_in_a_folder_is_refused_at_once(tmp_path):
    with locked(tmp_path), pytest.raises(ThinkrankError, match="is being trained by process"):
        train(recipe("retrieve"), SETTINGS["retrieve"], tmp_path, device="cpu")


def test_an_evaluation_can_be_written_elsewhere_and_is_refused_before_it_begins_where_it_cannot(runs, tmp_path):
    opened = open_run(runs("rank"), device="cpu")
    (tmp_path / "file").touch()
    with pytest.raises(ThinkrankError, match="cannot be written into"):
        evaluate(opened, out=tmp_path / "file" / "inside")
    evaluate(opened, EvaluationOptions(samples=4), out=tmp_path / "elsewhere")
    assert {"results.json", "report.html", FILE} <= {path.name for path in (tmp_path / "elsewhere").iterdir()}
    lines, _ = compared([f"{tmp_path / 'elsewhere'}:popularity", str(tmp_path / "elsewhere")])
    assert [line.system for line in lines] == ["popularity", "R2Rank"]
