"""The commands of ranking as a user meets them."""

import json
from pathlib import Path

import polars as pl
import pytest

from cli.test_cli import WINES, thinkrank, write_shop
from thinkrank.data import load_dataset

SETTINGS = [
    "--set", "model.backbone=tiny", "--set", "model.dtype=float32", "--set", "model.lora.rank=2",
    "--set", "model.thought.max_new_tokens=80", "--set", "model.prompt.history_window=4",
    "--set", "traces.lists=6", "--set", "cold_start.steps=2", "--set", "cold_start.users=2",
    "--set", "cold_start.validation_samples=2", "--set", "candidates.size=4",
    "--set", "reinforce.steps=2", "--set", "reinforce.users=2", "--set", "reinforce.negatives=2",
    "--set", "reinforce.group_size=2", "--set", "reinforce.rollout.max_new_tokens=4",
    "--set", "reinforce.validation_samples=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    shop = write_shop(tmp_path_factory.mktemp("shop"), WINES)
    folder = tmp_path_factory.mktemp("runs")
    told = f"traces.path='{write_verdicts(shop, folder / 'verdicts.jsonl')}'"
    return ["train", "rank", "table", "--path", str(shop), "--out", str(folder / "rank"), *SETTINGS, "--set", told]


def write_verdicts(shop, path):
    """A teacher that is always right: the wines tell rules nothing."""
    dataset = load_dataset("table", shop)
    lines = [
        json.dumps({"position": place, "item": item, "reasoning": f"{item} comes next.", "likely": row == taken})
        for place, taken in enumerate(dataset.items_E.tolist())
        for row, item in enumerate(dataset.catalogue.ids)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(command):
    done = thinkrank(*command)
    assert done.returncode == 0, done.stderr
    assert "best validation NDCG@10" in done.stdout
    assert "traces:" in done.stderr
    return command[command.index("--out") + 1]


def test_a_finished_run_is_reused(command, run):
    again = thinkrank(*command)
    assert again.returncode == 0
    assert "reusing it" in again.stderr


def test_evaluate_ranks_the_same_sets_with_every_system(run):
    done = thinkrank("evaluate", run, "--samples", "6", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    systems = {row["system"] for row in rows}
    assert {"random", "popularity", "item-kNN", "R2Rank"} <= systems
    assert any(row["split"].startswith("test, history") for row in rows)
    faithful = {row["metric"]: row for row in json.loads((Path(run) / "faithfulness.json").read_text(encoding="utf-8"))}
    assert {"removed: rank correlation", "another user's: overlap@10", "texts that may be shown"} <= {*faithful}
    assert all(row["low"] - 1e-9 <= row["value"] <= row["high"] + 1e-9 for row in faithful.values())
    page = (Path(run) / "report.html").read_text(encoding="utf-8")
    assert "thinkrank train rank table" in page
    assert "The whole list, 4 candidates" in page
    assert "What the answer owes to the text" in page


def test_rank_sorts_a_table_and_gives_reasons(run, tmp_path):
    (tmp_path / "pairs.csv").write_text("user,item\nc1,w3\nc1,w7\nc2,w0\n", encoding="utf-8")
    done = thinkrank("rank", run, str(tmp_path / "pairs.csv"), "--out", str(tmp_path / "out.csv"))
    assert done.returncode == 0, done.stderr
    table = pl.read_csv(tmp_path / "out.csv")
    checked = ["reason_claims_checked", "reason_claims_true", "reason_may_be_shown"]
    assert table.columns == ["request", "user", "place", "item", "title", "score", "shown_at", "reason", *checked]
    every = thinkrank("rank", run, str(tmp_path / "pairs.csv"), "--all-texts", "--out", str(tmp_path / "all.csv"))
    assert every.returncode == 0, every.stderr
    told = pl.read_csv(tmp_path / "all.csv", infer_schema=False)["reason"].to_list()
    hidden = [reason if may else None for reason, may in zip(told, table["reason_may_be_shown"], strict=True)]
    assert pl.read_csv(tmp_path / "out.csv", infer_schema=False)["reason"].to_list() == hidden
    assert table["user"].to_list() == ["c1", "c1", "c2"]
    assert table["place"].to_list() == [1, 2, 1]
    shown = {("c1", "w3"): 1, ("c1", "w7"): 2, ("c2", "w0"): 1}
    assert [shown[user, item] for user, item in table.select("user", "item").rows()] == table["shown_at"].to_list()
    assert table["score"][0] >= table["score"][1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user,thing\nc1,w3\n", "no column 'item'"),
        ("user,item\nc1,w3\nc1,w3\n", "has item 'w3' twice"),
        ("user,item\nc1,\n", "row 1 has an empty cell"),
        ("user,item\nc1,w99\n", "item 'w99' is not in the model's catalogue"),
        ("user,item\nnobody,w1\n", "no user has the id 'nobody'"),
    ],
)
def test_a_table_at_fault_is_named(run, tmp_path, text, said):
    (tmp_path / "pairs.csv").write_text(text, encoding="utf-8")
    done = thinkrank("rank", run, str(tmp_path / "pairs.csv"))
    assert done.returncode == 2
    assert said in done.stderr


def test_a_mistyped_path_and_a_wrong_run_are_told(run, tmp_path):
    assert "there is no such file" in thinkrank("rank", run, str(tmp_path / "absent.csv")).stderr
    (tmp_path / "pairs.csv").write_text("user,item\nc1,w3\n", encoding="utf-8")
    assert "no trained ranker here" in thinkrank("rank", str(tmp_path), str(tmp_path / "pairs.csv")).stderr
    assert "belong to retrievers" in thinkrank("evaluate", run, "--think").stderr


def test_histories_show_categories_where_the_source_has_short_ones():
    from thinkrank.recipes.layers import Layers
    from thinkrank.recipes.ranking import rank_settings

    films = rank_settings(Layers(source="movielens-100k")).model.prompt
    assert (films.noun, films.line) == ("movie", "{title} ({categories})")
    assert rank_settings(Layers()).model.prompt == films
    shop = rank_settings(Layers(source="amazon-2018")).model.prompt
    assert (shop.noun, shop.line) == ("product", "{title}")


def test_a_first_stages_own_lists_are_judged_beside_its_own_order(run, tmp_path):
    rows = [f"c{user},w{(user + step) % 12},{step}" for user in range(30) for step in range(6, 9)]
    (tmp_path / "found.csv").write_text("\n".join(["user,item,score", *rows]) + "\n", encoding="utf-8")
    found = str(tmp_path / "found.csv")
    done = thinkrank("evaluate", run, "--samples", "4", "--candidates", found, "--json")
    assert done.returncode == 0, done.stderr
    systems = {row["system"] for row in json.loads(done.stdout)}
    assert {"random", "first stage (found.csv)", "popularity", "R2Rank"} <= systems
    plain = [*SETTINGS, "--set", "model.thinks=false", "--set", "reinforce.steps=0", "--candidates", found]
    (tmp_path / "shop").mkdir()
    shop = write_shop(tmp_path / "shop", WINES)
    trained = thinkrank("train", "rank", "table", "--path", str(shop), "--out", str(tmp_path / "run"), *plain)
    assert trained.returncode == 0, trained.stderr
    assert f'file = "{found}"' in (tmp_path / "run" / "config.toml").read_text(encoding="utf-8")
