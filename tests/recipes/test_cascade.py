"""The run of a cascade, from settings to answers."""

import json
import shutil

import numpy as np
import pytest

from thinkrank.cascade import Cascade, CascadeConfig, EvidenceRanker
from thinkrank.data import World, WorldOptions
from thinkrank.rank import R2Rank, R2RankConfig
from thinkrank.recipes import later_stages
from thinkrank.recipes.base import EvaluationOptions, open_run, recipe_of
from thinkrank.recipes.cascade import CASCADE, NOT_RERANKED, RECIPE, cascade_settings, stage_table
from thinkrank.recipes.evaluation import evaluate
from thinkrank.recipes.later_stages import Building, LaterStages
from thinkrank.recipes.layers import Layers
from thinkrank.recipes.opening import opened
from thinkrank.recipes.pair_stage import PairSteps, pair_ranker
from thinkrank.recipes.presets import Preset
from thinkrank.recipes.running import train
from thinkrank.rerank import EGLR, Pointwise
from thinkrank.retrieve import Fused
from thinkrank.testing import refused

SMALL = {
    "model": {"backbone": "tiny", "dtype": "float32"},
    "training": {"steps": 2, "batch_size": 4, "validate_every": 2, "validation_samples": 20},
    "crowd": ["popularity", "item-kNN"],
    "stages": {"samples": 100, "folds": 2},
    "cascade": {"candidates": 12},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "world"
    World(WorldOptions(users=80, items=40, events=10, days=6)).dataset().save(folder)
    return {"data": {"source": str(folder)}}


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "cascade"
    settings = cascade_settings(Preset.thinkrank, Layers(tables=[data, SMALL]))
    train(RECIPE, settings, folder, device="cpu")
    return folder


def test_a_run_ends_with_a_cascade_whose_stages_are_loadable_alone(run):
    assert recipe_of(run).stage == "cascade"
    made = open_run(run, device="cpu")
    cascade = made.model
    assert [type(stage) for stage in cascade.stages.values()] == [Fused, EvidenceRanker]
    ranker = cascade.stages["rank"]
    assert ranker.config.offered == ("retriever.score", "retriever.popularity", "retriever.item-kNN", "retriever.R²ec")
    gain = cascade.config.gains["rank"]
    assert gain.samples == min(100, len(made.split.valid))
    assert 0 < gain.before <= gain.ceiling <= 1
    is_kept = gain.likelihood > gain.likelihood_error and gain.after >= gain.before
    assert is_kept == bool(cascade.config.blend("rank").own)
    assert {*cascade.config.costs} >= {"retrieve"}
    rows = {row["stage"]: row for row in stage_table(cascade)}
    assert rows["rank"]["ndcg_before"] == gain.before
    assert rows["retrieve"]["milliseconds"] > 0


def test_training_again_gives_the_same_weights(data, run, tmp_path):
    settings = cascade_settings(Preset.thinkrank, Layers(tables=[data, SMALL]))
    _, again = train(RECIPE, settings, tmp_path / "again", device="cpu")
    first = open_run(run, device="cpu").model
    np.testing.assert_array_equal(again.stages["rank"].weights_K, first.stages["rank"].weights_K)
    assert again.config.blends == first.config.blends


def test_a_run_is_judged_beside_its_stages(run):
    judged = evaluate(open_run(run, device="cpu"), EvaluationOptions(samples=40))
    systems = {*judged.evaluation.systems}
    assert {CASCADE, "popularity", "item-kNN", "R²ec, no thought", "R²ec and the crowd"} <= systems
    took = {row.system: row.value for row in judged.rows if row.metric == "milliseconds"}
    assert {*took} == systems
    assert all(value > 0 for value in took.values())
    ceilings = {row.system: row.value for row in judged.rows if row.metric == "ceiling"}
    assert ceilings[CASCADE] == ceilings["R²ec and the crowd"], "what is found is not changed by sorting it"
    assert judged.verdict
    assert json.loads((run / "results.json").read_text())


class Shelf:
    """A retriever and ranker of one's own: what stands further back in the catalogue is better."""

    def __init__(self, step: int = 1) -> None:
        self.step = step

    def fit(self, split):
        self.catalogue = split.dataset.catalogue
        return self

    def retrieve(self, requests, k, *, filter_seen=True):
        from thinkrank.stages import top_k

        scores = np.tile(np.arange(len(self.catalogue), dtype=np.float32) * self.step, (len(requests), 1))
        return top_k(scores, requests.histories, k, filter_seen=filter_seen)

    def rank(self, requests, candidates):
        from thinkrank.stages import order_candidates

        return order_candidates(candidates, candidates.items_BN.astype(np.float32) * self.step)

    def save_pretrained(self, folder):
        self.catalogue.save(folder / "items.parquet")
        (folder / "step").write_text(str(self.step))

    @classmethod
    def from_pretrained(cls, folder):
        from thinkrank.data import Catalogue

        made = cls(int((folder / "step").read_text()))
        made.catalogue = Catalogue.load(folder / "items.parquet")
        return made


class Logged(Shelf):
    """One that logs and goes on."""

    def train(self, split, run):
        self.fit(split)
        assert run.checkpoints.parent == run.metrics_file.parent
        run.log({"step": len(run.metrics()) + 1})


def test_stages_of_ones_own_log_and_go_on_in_folders_of_their_own(data, tmp_path):
    logged = {"class": f"{__name__}:Logged"}
    tables = {"retriever": logged, "stages": {**SMALL["stages"], "ranker": logged}, "cascade": {"candidates": 12}}
    settings = cascade_settings(Preset.thinkrank, Layers(tables=[data, tables]))
    train(RECIPE, settings, tmp_path / "own", device="cpu")
    shutil.rmtree(tmp_path / "own" / "model")  # as if it had been interrupted
    train(RECIPE, settings, tmp_path / "own", device="cpu")
    for verb in ("retrieve", "rank"):
        lines = (tmp_path / "own" / f"own-{verb}" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_stages_of_ones_own_are_named_by_the_settings_and_found_when_the_run_is_asked(data, tmp_path):
    own = {
        "retriever": {"class": f"{__name__}:Shelf"},
        "stages": {**SMALL["stages"], "ranker": {"class": f"{__name__}:Shelf", "options": {"step": -1}}},
        "cascade": {"candidates": 12},
    }
    settings = cascade_settings(Preset.thinkrank, Layers(tables=[data, own]))
    train(RECIPE, settings, tmp_path / "own", device="cpu")
    cascade = open_run(tmp_path / "own", device="cpu").model
    assert [type(stage).__name__ for stage in cascade.stages.values()] == ["Shelf", "Shelf"]
    assert cascade.stages["rank"].step == -1
    asked = opened(tmp_path / "own", "retrieve").load(device="cpu")
    assert isinstance(asked, Cascade)
    assert asked.config.gains == cascade.config.gains
    assert {*asked.config.gains} == {"rank"}
    judged = evaluate(open_run(tmp_path / "own", device="cpu"), EvaluationOptions(samples=30))
    assert {CASCADE, "Shelf"} <= {*judged.evaluation.systems}


def test_a_trained_run_may_be_the_ranker_and_nothing_stands_behind_where_nothing_validates(data, run, tmp_path):
    given = {**SMALL, "stages": {**SMALL["stages"], "rank": str(run / "model" / "rank")}}
    settings = cascade_settings(Preset.thinkrank, Layers(tables=[data, given]))
    _, cascade = train(RECIPE, settings, tmp_path / "other", device="cpu")
    assert isinstance(cascade.stages["rank"], EvidenceRanker)
    none = {**SMALL, "stages": {**SMALL["stages"], "rank": "none"}}
    _, alone = train(RECIPE, cascade_settings(Preset.thinkrank, Layers(tables=[data, none])), tmp_path / "none")
    assert [*alone.stages] == ["retrieve"]


def test_language_models_rank_and_a_list_writer_writes_from_training_to_the_server(data, run, tmp_path):
    from thinkrank.serve.served import Served  # what is served needs no web framework

    catalogue, thought = open_run(run, device="cpu").model.catalogue, {"max_new_tokens": 3}
    config = R2RankConfig(backbone="tiny", dtype="float32", thought=thought)
    R2Rank.create(config, catalogue, seed=1, device="cpu").save_pretrained(tmp_path / "ranker")
    few = {"evaluator": 2, "warm_start": 2, "reinforce": 1}
    stages = {"samples": 60, "folds": 2, "rank": str(tmp_path / "ranker"), "rerank": "eglr", "eglr": few}
    given = {**SMALL, "stages": stages, "cascade": {"candidates": 10, "slate": 8}}
    settings = cascade_settings(Preset.thinkrank, Layers(tables=[data, given]))
    _, trained = train(RECIPE, settings, tmp_path / "run", device="cpu")
    assert {"rank", "rerank"} <= {*trained.config.gains}
    decides = {name: {"before": 0.0, "own": 1.0} for name in ("rank", "rerank")}  # untrained, they would not be asked
    trained.config = trained.config.model_validate({**trained.config.model_dump(), "blends": decides})
    trained.save_pretrained(tmp_path / "run" / "model")
    opened_run = open_run(tmp_path / "run", device="cpu")
    cascade = opened_run.model
    assert [type(stage) for stage in cascade.stages.values()] == [Fused, R2Rank, EGLR]
    requests = opened_run.split.test.requests()[:2]
    answer = cascade.recommend(requests, 5)
    np.testing.assert_array_equal(answer.ranking.items_BK, trained.recommend(requests, 5).ranking.items_BK)
    assert answer.ranking.reasons is not None
    assert answer.ranking.latent is not None
    assert {CASCADE, NOT_RERANKED} <= {*evaluate(opened_run, EvaluationOptions(samples=6)).evaluation.systems}
    assert "EGLR" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert Served.of(cascade).writing_stages == {"rank"}


def test_a_network_learns_on_the_rankers_lists(data, run):
    opened = open_run(run, device="cpu")
    fused = opened.model.stages["retrieve"]
    options = LaterStages(samples=100, folds=2, rerank="pointwise")
    cascade = Building(options, CascadeConfig(candidates=12, slate=6), opened.split, fused, device="cpu").built()
    writer = cascade.stages["rerank"]
    assert isinstance(writer, Pointwise)
    names = {"retriever.score", "ranker.score"} if cascade.config.blend("rank").own else {"retriever.score"}
    assert names <= {*writer.network.encoder.schema.numeric_names}
    assert cascade.config.gains["rerank"].ceiling <= cascade.config.gains["rank"].ceiling
    answer = cascade.recommend(opened.split.test.requests()[:3], 5)
    assert ("rerank" in answer.stages) == bool(cascade.config.blend("rerank").own)


def test_a_language_model_learns_to_rank_on_lists_of_others(run, monkeypatch):
    opened, learnt = open_run(run, device="cpu"), []

    def watched(steps, samples, items_LN, *more, **options):
        learnt.append((samples, items_LN))
        return pair_ranker(steps, samples, items_LN, *more, **options)

    monkeypatch.setattr(later_stages, "pair_ranker", watched)
    steps = {"backbone": "tiny", "dtype": "float32", "cold_start": 2, "reinforce": 1}
    options = LaterStages.model_validate({"samples": 30, "folds": 2, "rank": "r2rank", "r2rank": steps})
    fused = opened.model.stages["retrieve"]
    building = Building(options, CascadeConfig(candidates=12), opened.split, fused, device="cpu", noun="film")
    cascade = building.built()
    first, second, whole = (samples for samples, _ in learnt)
    assert not {*first.users.tolist()} & {*second.users.tolist()}
    assert {*whole.positions.tolist()} == {*first.positions.tolist(), *second.positions.tolist()}
    assert all((items_LN == samples.targets[:, None]).any(axis=1).all() for samples, items_LN in learnt)
    ranker = cascade.stages["rank"]
    assert isinstance(ranker, R2Rank)
    assert ranker.config.prompt.noun == "film"
    assert cascade.config.gains["rank"].samples == 30


def test_a_language_model_learns_reasons_about_what_was_offered(run):
    opened = open_run(run, device="cpu")
    samples = opened.split.valid[:6]
    items_LN = np.array([[target, (target + 1) % 40, (target + 2) % 40] for target in samples.targets], np.int32)
    steps = {"backbone": "tiny", "dtype": "float32", "cold_start": 2, "thinks": True, "thought_tokens": 250}
    ranker = pair_ranker(PairSteps.model_validate(steps), samples, items_LN, opened.split, device="cpu")
    answer = ranker.rank(samples[:1].requests(), items_LN[:1])
    assert all(reason.token_ids.size for reason in answer.reasons[0])
    few = PairSteps.model_validate({**steps, "thought_tokens": 2})
    with refused("example thoughts.*raise stages.r2rank.thought_tokens"):
        pair_ranker(few, samples, items_LN, opened.split, device="cpu")


def test_lists_without_a_choice_teach_no_language_model(run):
    opened = open_run(run, device="cpu")
    options = LaterStages(samples=3, folds=2, rank="r2rank")
    building = Building(
        options, CascadeConfig(candidates=1), opened.split, opened.model.stages["retrieve"], device="cpu"
    )
    with refused("no list holds what was taken: raise stages.samples"):
        building.built()
