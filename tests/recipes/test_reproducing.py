"""A published row is found on its page, run again as the page says it was made, and judged by its own interval."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from thinkrank.errors import ThinkrankError
from thinkrank.evaluate.studies import read_study
from thinkrank.evaluate.trainings import trainings_intervals
from thinkrank.recipes.layers import read_toml
from thinkrank.recipes.reproducing import Reproduced, find_row, keep, published_rows, reproduce

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results.md"
STUDY = """
import json, sys
from pathlib import Path
words = sys.argv[1:]
name, arm = Path(words[0]).stem, words[words.index("--arm") + 1]
folder = Path(words[words.index("--results") + 1]) / name
folder.mkdir(parents=True, exist_ok=True)
for seed in (words[at + 1] for at, word in enumerate(words) if word == "--seed"):
    places = json.loads((Path(__file__).parent / "places.json").read_text())[seed]
    result = {"study": name, "arm": arm, "seed": int(seed), "about": arm, "seconds": 60.0, "ranks": {"test": places}}
    (folder / f"{arm}-{seed}.json").write_text(json.dumps(result | {"users": list(range(len(places)))}))
"""
"""A study that needs no training: its places stand in a file beside it."""
WRITES = """
import json, sys
from pathlib import Path
Path(sys.argv[sys.argv.index("--out") + 1]).write_text((Path(__file__).parent / "again.json").read_text())
"""
ROW = {"dataset": "d", "split": "test", "system": "kNN", "metric": "ndcg@10", "value": 0.2, "low": 0.1, "high": 0.3}


@pytest.fixture
def source(tmp_path):
    """Make a copy of a source with one study of one arm and two seeds, and one table of a command."""
    files = {
        "docs/results.md": "<!-- study own/tiny -->\n<!-- end -->\n<!-- table counts -->\n<!-- end -->\n",
        "docs/results/counts.json": json.dumps([ROW | {"n": 9, "seeds": []}]),
        "docs/results/commands.toml": '[counts]\ncommand = ["studies/counts.py"]\n',
        "studies/counts.py": WRITES,
        "studies/again.json": json.dumps([ROW | {"n": 9, "seeds": [], "value": 0.31}]),
        "studies/own/study.py": STUDY,
        "studies/own/tiny.toml": "[study]\nseeds = [0, 1]\nchosen_on_test = []\n",
        "studies/own/places.json": json.dumps({"0": [1, 2, 3, 4, 5, 6, 7, 8], "1": [2, 2, 3, 4, 5, 6, 7, 9]}),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    results = tmp_path / "studies" / "own" / "results" / "tiny"
    results.mkdir(parents=True)
    for seed, places in json.loads(files["studies/own/places.json"]).items():
        result = {"arm": "plain", "seed": int(seed), "about": "", "seconds": 90.0, "ranks": {"test": places}}
        (results / f"plain-{seed}.json").write_text(json.dumps(result | {"users": list(range(8)), "threads": 1}))
    return tmp_path


def test_a_row_of_a_study_is_trained_again_and_judged_by_its_own_interval(source, tmp_path):
    page = source / "docs" / "results.md"
    same = reproduce(page, "own/tiny/plain/test", runs=tmp_path / "runs")
    published = read_study(source / "studies" / "own" / "results" / "tiny")[0]
    interval = trainings_intervals(published.values("ndcg@10")[None], published.users_S)[0]
    assert same.inside
    assert same.again == same.published == pytest.approx(interval.value)
    assert (same.low, same.high, same.seeds) == (interval.low, interval.high, (0, 1))
    (source / "studies" / "own" / "places.json").write_text(json.dumps({"0": [90] * 8, "1": [1] * 8}))
    worse = reproduce(page, "own/tiny", seeds=[0], runs=tmp_path / "others")  # the only row that begins so
    assert (worse.again, worse.inside, worse.seeds) == (0.0, False, (0,))


def test_a_row_of_another_table_is_made_by_its_command(source, tmp_path):
    found = reproduce(source / "docs" / "results.md", "counts/kNN/test", runs=tmp_path / "runs")
    assert (found.published, found.low, found.high, found.again, found.inside) == (0.2, 0.1, 0.3, 0.31, False)
    (source / "docs" / "results" / "commands.toml").write_text("", encoding="utf-8")
    with pytest.raises(ThinkrankError, match=r"commands.toml: does not say what made counts"):
        reproduce(source / "docs" / "results.md", "counts/kNN/test", runs=tmp_path / "others")


def test_what_fails_is_told_by_its_row(source, tmp_path):
    (source / "studies" / "own" / "study.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(ThinkrankError, match=r"own/tiny/plain/test: .*study.py .* ended with code 3"):
        reproduce(source / "docs" / "results.md", "own/tiny/plain/test", runs=tmp_path / "runs")


def test_unknown_rows_and_pages_are_told(source):
    rows = published_rows(source / "docs" / "results.md")
    with pytest.raises(ThinkrankError, match="no row is called 'own/tiny/plan/test'; nearest: own/tiny/plain/test"):
        find_row(rows, "own/tiny/plan/test")
    with pytest.raises(ThinkrankError, match="several rows are called 'a': a/b, a/c"):
        find_row([replace(rows[0], name=name) for name in ("a/b", "a/c")], "a")
    with pytest.raises(ThinkrankError, match="no such page"):
        published_rows(source / "docs" / "missing.md")
    (source / "docs" / "results.md").write_text("nothing")
    with pytest.raises(ThinkrankError, match="shows no table with hit@3000x"):
        published_rows(source / "docs" / "results.md", "hit@3000x")


def test_what_was_found_replaces_what_was_there_of_the_row(tmp_path):
    first = Reproduced("b", "m", 0.5, 0.4, 0.6, 0.55, (0,), True, "x")
    keep(first, tmp_path / "kept.json")
    keep(Reproduced("a", "m", 0.5, 0.4, 0.6, 0.55, (), True, "x"), tmp_path / "kept.json")
    keep(Reproduced("b", "m", 0.5, 0.4, 0.6, 0.7, (0,), False, "y"), tmp_path / "kept.json")
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert [(one["row"], one["again"], one["inside"]) for one in kept] == [("a", 0.55, True), ("b", 0.7, False)]


def test_every_table_of_the_page_of_results_can_be_run_again():
    commands, names = read_toml(ROOT / "docs" / "results" / "commands.toml"), set()
    for kind, name in re.findall(r"<!-- (study|table) ([\w./-]+) -->", PAGE.read_text(encoding="utf-8")):
        names.add(name)
        if kind == "study":
            assert (ROOT / "studies" / f"{name}.toml").is_file(), name
        else:
            assert (ROOT / commands[name]["command"][0]).is_file(), name
    assert names
