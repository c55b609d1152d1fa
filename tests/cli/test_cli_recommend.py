"""Answers for many users on the command line: formats, and what is refused before any work begins."""

import json

import polars as pl
import pytest
import tomli_w

from cli.test_cli import WINES, thinkrank, write_shop
from thinkrank.cli.tables import write_table
from thinkrank.data import load_dataset, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.retrieve import ItemKNN


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    shop, folder = write_shop(tmp_path_factory.mktemp("shop"), WINES), tmp_path_factory.mktemp("run")
    ItemKNN().fit(split_dataset(load_dataset("table", shop))).save_pretrained(folder / "model")
    config = {"data": {"source": "table", "path": str(shop)}, "training": {"steps": 1}}
    (folder / "config.toml").write_text(tomli_w.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("name", "read"), [("r.csv", pl.read_csv), ("r.PARQUET", pl.read_parquet), ("r.jsonl", pl.read_ndjson)]
)
def test_all_users_are_answered_into_the_format_that_the_name_says(run, tmp_path, name, read):
    done = thinkrank("recommend", str(run), "--users", "all", "-k", "99999999999", "--out", str(tmp_path / name))
    assert done.returncode == 0, done.stderr
    table = read(tmp_path / name)
    assert table.columns == ["user", "place", "item", "title", "score"]
    assert table["user"].n_unique() == 30
    assert "answered 30 users without a thought" in done.stderr


def test_without_a_file_the_answers_are_csv_on_the_screen(run, tmp_path):
    (tmp_path / "who.csv").write_text("user\nc3\nc1\n")
    done = thinkrank("recommend", str(run), "--users", str(tmp_path / "who.csv"), "-k", "1")
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == ["user", "c3", "c1"]


@pytest.mark.parametrize("name", ["r.xlsx", "r.csv.gz", "r"])
def test_another_format_is_refused_before_anything_is_loaded(name, tmp_path):
    for command in (
        ("recommend", "nowhere", "--users", "all"),
        ("rank", "nowhere", "pairs.csv"),
        ("rerank", "nowhere", "table", "lists"),
    ):
        done = thinkrank(*command, "--out", str(tmp_path / name))
        assert done.returncode == 2
        assert "give a name that ends in .csv, .parquet, .jsonl" in done.stderr
    with pytest.raises(ThinkrankError, match="ends in"):
        write_table(pl.DataFrame({"user": ["u"]}), tmp_path / name)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--users", "all", "--user", "c1"], "give either"),
        (["--user", "c1", "--out", "r.csv"], "for many users"),
        (["--users", "all", "--json"], "--json is for one user"),
        (["--users", "absent.csv"], "there is no such file"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run, options, told):
    done = thinkrank("recommend", str(run), *options)
    assert done.returncode == 2
    assert told in done.stderr


def test_a_user_is_answered_with_the_history_first(run):
    shown = thinkrank("recommend", str(run), "--user", "c3", "-k", "2").stdout
    assert shown.startswith("History (the newest 8 of 8)")
    told = json.loads(thinkrank("recommend", str(run), "--user", "c3", "--json").stdout)
    assert (told["history"][0], told["answered"]) == ("w3", "without a thought")
