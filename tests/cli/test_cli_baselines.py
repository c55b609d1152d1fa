"""`thinkrank baselines`: what it prints and writes, and how it refuses."""

import json

from typer.testing import CliRunner

from thinkrank.cli.main import app
from thinkrank.errors import ThinkrankError

WORLD = [f"--option={option}" for option in ("users=60", "items=40", "styles=8", "kinds=8", "events=10")]


def baselines(*arguments):
    return CliRunner().invoke(app, ["baselines", "synthetic", *WORLD, *arguments], env={"COLUMNS": "160"})


def test_systems_are_tuned_judged_and_shown_and_the_second_time_only_shown(tmp_path):
    arguments = ("--systems", "popularity, item-knn", "--minutes", "0.5", "--out", str(tmp_path))
    first, again = baselines(*arguments), baselines(*arguments, "--json")
    assert (first.exit_code, again.exit_code) == (0, 0), first.output + again.output
    assert "popularity: half_life_days" in first.stdout
    assert "item-kNN: shrinkage" in first.stdout
    assert "NDCG@10" in first.stdout
    assert json.loads(again.stdout) == json.loads((tmp_path / "results.json").read_text())
    told = json.loads((tmp_path / "tuning.json").read_text())
    assert told["minutes"] == 0.5
    assert [record["system"] for record in told["systems"]] == ["popularity", "item-kNN"]
    protocol = json.loads((tmp_path / "comparisons.json").read_text())["protocol"]
    assert protocol["baseline settings"]["popularity"] == told["systems"][0]["chosen"]
    compared = CliRunner().invoke(app, ["compare", f"{tmp_path}:popularity", f"{tmp_path}:item-kNN", "--json"])
    assert compared.exit_code == 0, repr(compared.exception)
    values = {row["system"]: row["value"] for row in json.loads(again.stdout) if row["metric"] == "ndcg@10"}
    for line in json.loads(compared.stdout)["runs"]:
        assert abs(line["value"] - values[line["system"]]) < 1e-12


def test_an_unknown_system_is_refused_by_its_name(tmp_path):
    refused = baselines("--systems", "bpr", "--out", str(tmp_path / "new"))
    assert isinstance(refused.exception, ThinkrankError)
    assert "there are popularity, item-knn, ease, text, als, gru4rec, sasrec" in str(refused.exception)
