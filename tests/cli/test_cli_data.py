"""`thinkrank data`: dirty exports become a table in at most two refusals, and the commands of the guide run."""

import json
import re
import shlex
from pathlib import Path

import polars as pl
import pytest

from cli.test_cli import thinkrank
from data.dirty_shop import write_dirty_shop
from thinkrank.data import Dataset

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "data.md"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def shop(tmp_path):
    write_dirty_shop(tmp_path / "shop")
    return tmp_path


def test_the_worked_example_of_the_guide_runs_and_prints_what_the_guide_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example, in_python, *_ = blocks("python")
    exec(example, {})
    check, prepare, *_ = [block.replace("\\\n", " ").strip().splitlines() for block in blocks("bash")]
    checked = thinkrank(*shlex.split(check[0])[1:], cwd=tmp_path)
    assert checked.returncode == 2
    shown = blocks("text")[0].splitlines()
    assert [line for line in shown if line not in checked.stdout.splitlines()] == []
    for line in prepare:
        done = thinkrank(*shlex.split(line)[1:], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    wines = Dataset.load(tmp_path / "data" / "wines")
    assert (wines.name, set(wines.interactions["event"])) == ("wines", {"purchase"})
    bad = pl.read_csv(tmp_path / "data" / "wines" / "bad_rows.csv")
    assert bad.select("file", "line").rows() == [
        ("orders.csv", 61), ("orders.csv", 71), ("orders.csv", 81), ("wines.csv", 42)
    ]  # fmt: skip
    exec(in_python, {})


def test_a_dirty_shop_is_a_table_after_two_refusals_whose_advice_is_pasted(shop):
    words = ["data", "describe", "table", "--path", "shop"]
    first = thinkrank(*words, cwd=shop)
    assert first.returncode == 2
    words += shlex.split(first.stderr.strip().removesuffix(".").split("Name yours: ")[1])
    second = thinkrank(*words, cwd=shop)
    assert second.returncode == 2
    assert "5 more rows are at fault: `thinkrank data check table" in second.stderr
    checked = thinkrank(*shlex.split(second.stderr.split("`")[1])[1:], cwd=shop)
    assert (checked.returncode, checked.stdout.count("MUST BE MENDED")) == (2, 4)
    words += shlex.split(second.stderr.split(" lists them all, ")[1].removesuffix(" leaves them out.\n"))
    done = thinkrank(*words, "--json", cwd=shop)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["name"], told["users"], told["items"]) == ("shop", 60, 46)
    assert set(told["events"]) == {"view", "cart", "purchase"}
    assert set(told["further_columns"]) == {"color", "region", "grape", "vintage"}
    chosen = thinkrank(*words, "-f", "event=purchase", "-f", "event=cart", "--json", cwd=shop)
    assert set(json.loads(chosen.stdout)["events"]) == {"cart", "purchase"}


def test_a_check_names_lines_as_an_editor_counts_them(shop):
    done = thinkrank("data", "check", "table", "--path", "shop", "--json", cwd=shop)
    record = json.loads(done.stdout)
    lines = (shop / "shop" / "orders.csv").read_text(encoding="utf-8-sig").splitlines()
    (guests,) = [fault for fault in record["faults"] if "user is missing" in fault["problem"]]
    assert [place["line"] for place in guests["first"]] == [n for n, line in enumerate(lines, 1) if line[0] == ";"]
    assert len(record["failures"]) == 1
    assert record["sound"] is False


def test_a_sound_folder_passes(shop):
    done = thinkrank(
        "data", "check", "table", "--path", "shop", "-o", "interactions=orders.csv", "-o", "items=wines.csv",
        "--on-bad", "drop", "--bad-rows", "bad.parquet", cwd=shop,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "sound: nothing has to be mended" in done.stdout
    assert pl.read_parquet(shop / "bad.parquet").height == 6
    prepare = ["table", "--path", "shop", "-o", "interactions=orders.csv", "-o", "items=wines.csv", "--on-bad", "drop"]
    done = thinkrank("data", "prepare", *prepare, "--out", "ready", cwd=shop)
    assert done.returncode == 0, done.stderr
    told = json.loads(thinkrank("data", "check", "ready", "--json", cwd=shop).stdout)
    assert (told["sound"], told["faults"]) == (True, [])
    assert told["left"]["users"] > 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["describe", "table", "--path", "shop/orders.csv"],
            "Give the folder it is in: --path shop -o interactions=orders",
        ),
        (["check", "shop"], "`thinkrank data check table --path shop`"),
        (["describe", "table", "--path", "shop", "-o", "event_weights={view=0.1}"], "-f 'event={purchase = 1,"),
        (["describe", "trivago", "--path", "shop", "-f", "k_core=2"], "these are displayed lists"),
        (["describe", "table", "--path", "shop", "--on-bad", "ignore"], "setting on_bad"),
    ],
)
def test_a_wrong_question_is_answered_by_the_right_one(shop, words, told):
    done = thinkrank("data", *words, cwd=shop)
    assert done.returncode == 2
    assert told in done.stderr + done.stdout


def test_displayed_lists_are_checked_and_described(tmp_path):
    rows = [
        "list,user,item,position,time,click",
        "1,u,a,1,100,True",
        "1,u,b,2,100,maybe",
        "2,u,a,1,99,no",
        "2,u,b,2,99,yes",
    ]
    (tmp_path / "lists.csv").write_text("\n".join(rows))
    checked = thinkrank("data", "check", "table", "--lists", "--path", ".", cwd=tmp_path)
    assert checked.returncode == 2
    assert "lists.csv: 1 row, line 3: click 'maybe' is not a number" in checked.stdout
    made = thinkrank("data", "check", "synthetic", "--lists", "-o", "lists=30", "-o", "users=5", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    words = ["data", "describe", "table", "--lists", "--path", ".", "--on-bad", "drop", "--json"]
    done = thinkrank(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["lists"] == 1


def test_a_home_folder_is_found(shop, monkeypatch):
    monkeypatch.setenv("HOME", str(shop / "home"))
    words = ["-o", "interactions=orders.csv", "-o", "items=wines.csv", "--on-bad", "drop", "--out", "~/prepared"]
    done = thinkrank("data", "prepare", "table", "--path", "shop", *words, cwd=shop)
    assert done.returncode == 0, done.stderr
    assert Dataset.load(shop / "home" / "prepared").users
