"""Result rows on disk, on the terminal and in Markdown."""

import json
from io import StringIO
from pathlib import Path

import pytest
from pydantic import ValidationError
from rich.console import Console

from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import (
    Comparison,
    ResultRow,
    read_comparisons,
    read_results,
    results_markdown,
    results_table,
    write_comparisons,
    write_results,
)


def row(system: str = "popularity", metric: str = "ndcg@10", value: float = 0.0311, **changes) -> ResultRow:
    fields = {"dataset": "ml", "split": "test", "low": 0.02, "high": 0.04, "n": 9, "seeds": (1, 2)} | changes
    return ResultRow(system=system, metric=metric, value=value, **fields)


def test_the_file_is_a_list_of_rows_with_exactly_the_agreed_keys(tmp_path: Path):
    write_results(tmp_path / "deep" / "results.json", [row()])
    (found,) = json.loads((tmp_path / "deep" / "results.json").read_text())
    assert list(found) == ["dataset", "split", "system", "metric", "value", "low", "high", "n", "seeds", "ties"]
    assert found["seeds"] == [1, 2]


def test_how_ties_are_judged_stands_beneath_every_table():
    told = [row().model_copy(update={"ties": rule}) for rule in ("expected", "pessimistic")]
    assert "Ties: expected value over random orders" in results_markdown(told[:1])
    assert "pessimistic" not in results_markdown(told[:1])
    assert "pessimistic" in results_table(told).caption
    assert "Ties" not in results_markdown([row()])


def test_rows_come_back(tmp_path: Path):
    rows = [row(), row("Öl | <b>", "coverage@10", low=None, high=None)]
    write_results(tmp_path / "results.json", rows)
    assert read_results(tmp_path / "results.json") == rows


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch):
    path = tmp_path / "results.json"
    write_results(path, [row()])
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(ThinkrankError, match=r"/results\.json cannot be written: disk full; make room, or"):
        write_results(path, [row("other")])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "Invalid JSON"),
        ("{}", "valid array"),
        ('[{"dataset": "ml"}]', "row 0, key 'split'"),
        (json.dumps([row().model_dump() | {"extra": 1}]), "row 0, key 'extra'"),
        (json.dumps([row().model_dump(), row().model_dump() | {"value": "high"}]), "row 1, key 'value'"),
    ],
)
def test_a_damaged_file_is_refused_with_the_row_and_key_at_fault(tmp_path: Path, text: str, message: str):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ThinkrankError, match=message) as caught:
        read_results(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path):
    with pytest.raises(ThinkrankError, match="no such file"):
        read_results(tmp_path / "results.json")
    with pytest.raises(ThinkrankError, match=r"comparisons\.json: no such file"):
        read_comparisons(tmp_path / "comparisons.json")


def comparison(system: str = "item-kNN") -> Comparison:
    figures = {"difference": 0.1, "low": 0.05, "high": 0.15, "p_value": 0.01, "num_clusters": 9}
    return Comparison(dataset="ml", split="test", system=system, reference="popularity", metric="mrr", **figures)


def test_the_protocol_stands_beside_the_comparisons(tmp_path: Path):
    path = tmp_path / "comparisons.json"
    protocol = {"candidates": "whole catalogue (9 items)", "seen items left out": True, "cut-offs": [5, 10]}
    write_comparisons(path, [comparison(), comparison("Öl")], protocol)
    found = json.loads(path.read_text())
    assert list(found) == ["protocol", "comparisons"]
    assert found["protocol"] == protocol
    assert list(found["comparisons"][0]) == list(Comparison.model_fields)
    read = read_comparisons(path)
    assert read.protocol == protocol
    assert read.comparisons == (comparison(), comparison("Öl"))


def test_a_file_of_comparisons_without_a_protocol_is_read(tmp_path: Path):
    path = tmp_path / "comparisons.json"
    path.write_text(json.dumps([comparison().model_dump(mode="json")]))
    read = read_comparisons(path)
    assert (read.protocol, read.comparisons) == ({}, (comparison(),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Invalid JSON"),
        ("{}", "key 'protocol'"),
        ('{"protocol": {}}', "key 'comparisons'"),
        ('[{"dataset": "ml"}]', "row 0, key 'split'"),
        ('{"protocol": {}, "comparisons": [{"dataset": "ml"}]}', "row 0, key 'split'"),
        ('{"protocol": {}, "comparisons": [], "more": 1}', "key 'more'"),
    ],
)
def test_damaged_comparisons_are_refused_with_what_is_at_fault(tmp_path: Path, text: str, message: str):
    path = tmp_path / "comparisons.json"
    path.write_text(text)
    with pytest.raises(ThinkrankError, match=message) as caught:
        read_comparisons(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_value_that_json_cannot_hold_is_refused():
    with pytest.raises(ValidationError, match="finite"):
        row(value=float("nan"))


def test_the_table_has_a_line_per_system_and_a_column_per_metric():
    rows = [row(), row(metric="hit@10", value=0.5), row("[red]knn", value=0.1)]
    console = Console(width=120, record=True, file=StringIO())
    console.print(results_table(rows))
    text = console.export_text()
    assert "[red]knn" in text
    assert ".0311" in text
    assert ".0200–.0400" in text
    assert text.index("ndcg@10") < text.index("hit@10")


def test_markdown_is_one_table():
    rows = [row(), row(metric="coverage@10", value=12.5, low=None, high=None), row("a|b")]
    assert results_markdown(rows).splitlines() == [
        "| dataset | split | system | ndcg@10 | coverage@10 |",
        "| --- | --- | --- | ---: | ---: |",
        "| ml | test | popularity | .0311 [.0200–.0400] | 12.50 |",
        r"| ml | test | a\|b | .0311 [.0200–.0400] |  |",
    ]


def test_a_narrow_terminal_names_every_system_and_metric_whole():
    rows = [
        ResultRow(dataset="d", split="test", system=s, metric=m, value=0.4, low=0.3, high=0.5, n=5, seeds=())
        for s in ("popularity", "R²ec and the crowd")
        for m in ("hit@10", "ndcg@10", "mrr", "coverage@10")
    ]
    for width in (30, 40, 60, 100):
        console = Console(width=width, record=True, file=StringIO())
        console.print(results_table(rows))
        shown = console.export_text()
        for word in ("popularity", "hit@10", "ndcg@10", "coverage@10", ".4000", ".3000–.5000"):
            assert word in shown, (width, word)
