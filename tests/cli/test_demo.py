"""The demo, with a tiny model on made data: what it leaves, and that a second call only shows it."""

import json

import pytest

from thinkrank.cli import demo

TINY = [
    "data.source=synthetic", "data.options.users=40", "data.options.items=40", "data.options.styles=8",
    "data.options.kinds=8", "data.options.events=8", "model.backbone=tiny", "model.dtype=float32",
    "model.lora.top_layers=1", "training.steps=2",
]  # fmt: skip


def test_a_plan_of_the_demo_names_every_stage_and_writes_nothing(tmp_path, capsys):
    quick = [*TINY, 'crowd=["popularity"]', "stages.samples=20"]
    demo.demo(tmp_path / "run", samples=15, assignments=quick, dry_run=True, json_output=True)
    told = capsys.readouterr()
    seconds = json.loads(told.out)["seconds"]
    stages = ["loading the model", "contrastive training", "joining with the crowd", "later stages", "judging"]
    assert [title for title in seconds if "validating" not in title] == stages
    assert min(seconds.values()) > 0
    assert json.loads(told.out)["plan"]["hours"] * 3600 == pytest.approx(sum(seconds.values()))
    assert all(f"{title} " in told.err for title in stages)
    assert not list(tmp_path.iterdir())


def test_the_demo_leaves_a_judged_cascade_and_is_then_reused(tmp_path, capsys):
    demo.demo(tmp_path, samples=15, assignments=TINY)
    first = capsys.readouterr()
    assert "thinkrank recommend" in first.out
    assert "cascade: NDCG@10" in first.out
    assert "thinkrank serve" in first.out
    assert "claims: checked" in first.out
    rows = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert {row["system"] for row in rows} == {
        "popularity", "item-kNN", "EASE", "text", "ALS", "R²ec, no thought", "R²ec and the crowd",
        "cascade",
    }  # fmt: skip
    figures = [row["value"] for row in rows if row["metric"] == "ndcg@10"]
    assert figures == sorted(figures, reverse=True)
    assert {(row["n"], row["split"]) for row in rows} == {(15, "test")}
    assert (tmp_path / "model" / "rank" / "config.json").is_file()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Stage by stage</h2>" in page
    demo.demo(tmp_path, samples=15, assignments=TINY)
    again = capsys.readouterr()
    assert "is there already: reusing it" in again.err
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    assert "R²ec and the crowd" in again.out
