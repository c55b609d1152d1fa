"""The commands of re-ranking as a user meets them."""

import functools
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cli.test_cli import thinkrank

WORLD = {"users": 40, "lists": 1000}
SETTINGS = [
    "--set", "model.generator.width=16", "--set", "model.generator.heads=2",
    "--set", "evaluator.steps=4", "--set", "warm_start.steps=4", "--set", "grpo.steps=2", "--set", "grpo.batch_size=4",
    "--set", "grpo.group_size=2", "--set", "grpo.failed_check=warn", "--set", "grpo.length=4",
    "--set", "evaluator.validation_lists=20", "--set", "warm_start.validation_lists=20",
    "--set", "grpo.validation_lists=20",
]  # fmt: skip
MADE = [*SETTINGS, *(part for key, value in WORLD.items() for part in ("-o", f"{key}={value}"))]


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    return ["train", "rerank", "synthetic", "--out", str(tmp_path_factory.mktemp("runs") / "rerank"), *MADE]


@pytest.fixture(scope="module")
def run(command):
    done = thinkrank(*command)
    assert done.returncode == 0, done.stderr
    assert "last validation NDCG@4" in done.stdout
    return command[command.index("--out") + 1]


def test_a_finished_run_is_reused_and_its_report_tells_of_the_evaluator(command, run):
    again = thinkrank(*command, "--json")
    assert again.returncode == 0, again.stderr
    assert "reusing it" in again.stderr
    printed = json.loads(again.stdout)
    page = Path(printed["report"]).read_text(encoding="utf-8")
    assert "The evaluator</h3>" in page
    assert "EGLR, no thinking" in page


def test_a_list_writer_is_evaluated_beside_the_displayed_order(run):
    done = thinkrank("evaluate", run, "--samples", "30", "--part", "valid", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    best = "EGLR, the evaluator's best of 8"
    assert {row["system"] for row in rows} == {
        "displayed order",
        "best possible order",
        "EGLR, no thinking",
        "EGLR",
        best,
    }
    assert {(row["n"], row["split"]) for row in rows if row["metric"] == "ndcg@10"} == {(30, "valid")}
    assert best in Path(run, "report.html").read_text(encoding="utf-8").replace("&#x27;", "'")
    shown = thinkrank("evaluate", run, "--samples", "30")
    assert "displayed order" in shown.stdout
    assert "think as their run says" in thinkrank("evaluate", run, "--think").stderr
    assert "cannot order displayed lists" in thinkrank("evaluate", run, "--sasrec").stderr


def test_a_writer_without_an_evaluator_is_evaluated_without_it(tmp_path):
    plain = ["--set", "evaluator.steps=0", "--set", "grpo.steps=0"]
    command = ["train", "rerank", "synthetic", "--out", str(tmp_path / "run"), *MADE, *plain]
    gated = thinkrank(*command)
    assert gated.returncode == 2
    assert "nothing sets the threshold of the gate" in gated.stderr
    assert thinkrank(*command, "--set", "model.reasoning.mode=none").returncode == 0
    done = thinkrank("evaluate", str(tmp_path / "run"), "--samples", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert {row["system"] for row in json.loads(done.stdout)} == {"displayed order", "best possible order", "EGLR"}


def test_the_best_of_several_is_judged_on_the_places_that_were_trained(tmp_path):
    five = ["--set", "model.evaluator.kind=five_channel", "--set", "model.evaluator.length=4"]
    command = ["train", "rerank", "synthetic", "--out", str(tmp_path / "run"), *MADE, *five]
    slates = ["--set", "evaluator.slate_length=4"]
    done = thinkrank(*command, *slates)
    assert done.returncode == 0, done.stderr
    done = thinkrank("evaluate", str(tmp_path / "run"), "--samples", "20", "--json")
    assert done.returncode == 0, done.stderr
    assert "EGLR, the evaluator's best of 8" in {row["system"] for row in json.loads(done.stdout)}
    from thinkrank.data import load_impressions
    from thinkrank.rerank import EGLR

    lists = load_impressions("synthetic", **WORLD).subset(np.arange(20))
    model = EGLR.from_pretrained(tmp_path / "run" / "model")
    ranking = model.rerank(lists.requests, lists.candidates, 8, samples=3, places=4)
    assert (ranking.items_BK >= 0).all()  # eight places, of which the evaluator reads four
    again = thinkrank(*command, *slates)
    assert again.returncode == 0, again.stderr
    assert "best of 8" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")  # a reused run's report stays


def test_lists_of_another_make_are_refused(run, tmp_path):
    rows = [f"l{n},u{n},w{p},{p},{10**9 + n},0" for n in range(3) for p in range(1, 4)]
    (tmp_path / "lists.csv").write_text("\n".join(["list,user,item,position,time,click", *rows]), encoding="utf-8")
    done = thinkrank("rerank", run, "table", str(tmp_path), "--out", str(tmp_path / "slates.csv"))
    assert done.returncode == 2
    assert "no score (numeric)" in done.stderr
    assert "which the model was made for" in done.stderr


def test_lists_of_the_next_day_are_written_anew_with_items_and_people_that_are_new(tmp_path):
    def write(name, first, items):
        folder = tmp_path / name
        folder.mkdir()
        rows = [
            f"l{n},u{n},w{items[(n + p) % len(items)]},{p},{10**9 + n},{int(p == 1)}"
            for n in range(first, first + 60)
            for p in range(1, 5)
        ]
        (folder / "lists.csv").write_text("\n".join(["list,user,item,position,time,click", *rows]), encoding="utf-8")
        return str(folder)

    trained = str(tmp_path / "run")
    done = thinkrank("train", "rerank", "table", "--path", write("today", 0, range(9)), "--out", trained, *SETTINGS)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "slates.csv"
    done = thinkrank("rerank", trained, "table", write("tomorrow", 60, range(5, 12)), "--out", str(out), "-k", "2")
    assert done.returncode == 0, done.stderr
    table = pl.read_csv(out)
    assert table.height == 120
    assert table["item"].is_in([f"w{n}" for n in range(5, 12)]).all()
    assert table["user"][0] == "u60"


def test_the_evaluator_picks_by_the_reward_that_the_run_trained(run, tmp_path, monkeypatch):
    from thinkrank.cli import rerank as command
    from thinkrank.data import load_impressions
    from thinkrank.rerank import EGLR

    lists = load_impressions("synthetic", **WORLD)

    text = (Path(run) / "config.toml").read_text(encoding="utf-8")
    other = tmp_path / "run"
    (other / "model").mkdir(parents=True)
    for file in (Path(run) / "model").iterdir():
        (other / "model" / file.name).write_bytes(file.read_bytes())
    (other / "config.toml").write_text(text.replace('reward = "sum"', 'reward = "discounted"'), encoding="utf-8")
    asked, original = [], EGLR.rerank

    @functools.wraps(original)
    def noted(self, requests, candidates, k, **options):
        asked.append(options["reward"])
        return original(self, requests, candidates, k, **options)

    monkeypatch.setattr(EGLR, "rerank", noted)
    monkeypatch.setattr("thinkrank.data.sources.load_impressions", lambda *_, **__: lists)
    for folder in (run, other):
        command.rerank(Path(folder), "synthetic", Path(), out=tmp_path / "slates.csv", k=3, samples=2, device="cpu")
    assert asked == ["sum", "discounted"]


def test_lists_like_those_it_was_trained_on_are_answered_place_by_place(run, monkeypatch):
    from thinkrank.data import load_impressions
    from thinkrank.recipes.answering import rerank_lists

    lists = load_impressions("synthetic", **WORLD)
    monkeypatch.setattr("thinkrank.data.sources.load_impressions", lambda *_, **__: lists)
    table = rerank_lists(Path(run), "synthetic", Path(), {}, k=3, device="cpu")
    assert table.columns == [
        "request", "user", "place", "item", "title", "score", "shown_at", "entropy_before", "entropy_after", "steps",
    ]  # fmt: skip
    assert len(table["request"].unique()) == len(lists)
    assert table.group_by("request").agg(pl.col("place").max())["place"].unique().to_list() == [3]
    assert (table["score"] <= 0).all()


def test_faults_are_told_in_one_line(run, tmp_path):
    assert "no trained re-ranker here" in thinkrank("rerank", str(tmp_path), "table", str(tmp_path)).stderr
    wrong = thinkrank("train", "rerank", "trivagoo", "--out", str(tmp_path / "x"))
    assert wrong.returncode == 2
    assert "trivago" in wrong.stderr
    unknown = thinkrank("train", "rerank", "--set", "model.reasoning.max_step=3", "--out", str(tmp_path / "x"))
    assert "did you mean model.reasoning.max_steps" in unknown.stderr


def test_the_synthetic_world_has_defaults_of_its_own():
    from thinkrank.recipes.layers import Layers
    from thinkrank.recipes.reranking import rerank_settings

    unnamed, made = rerank_settings(Layers()), rerank_settings(Layers(source="synthetic"))
    assert made == unnamed.model_copy(update={"data": made.data})
    assert made.model.lists.user_ids
    assert made.model.evaluator.lists.leave_out == ("score",)
    assert not made.model.evaluator.lists.positions
    hotels = rerank_settings(Layers(source="trivago"))
    assert (hotels.model.lists.user_ids, hotels.grpo.reward) == (False, "mean")
    assert rerank_settings(Layers(assignments=["data.source=trivago"])) == hotels
    over = rerank_settings(Layers(source="synthetic", assignments=["grpo.reward=mean"]))
    assert over == made.model_copy(update={"grpo": made.grpo.model_copy(update={"reward": "mean"})})
