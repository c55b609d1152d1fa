"""Result rows: the one table format of every command, as a file, on the terminal and in Markdown."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import FiniteFloat, TypeAdapter, ValidationError, model_validator
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

from thinkrank._files import atomic_write
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options

Ties = Literal["expected", "pessimistic"]
"""How equal scores are judged: by the expected value over their orders, or as if all others stood before the target."""

TIES: dict[Ties, str] = {
    "expected": "expected value over random orders of equal scores",
    "pessimistic": "pessimistic: an equal score stands before the target",
}
"""What is said of it beside figures."""

_ANY_WIDTH = 1000
"""Columns of a terminal on which every table has room."""


class ResultRow(Options):
    """Hold one figure: a metric of a system on a split.

    Attributes:
        dataset: name of the data set.
        split: which part of it, such as "test".
        system: name of what was measured.
        metric: with its cut-off, such as "ndcg@10".
        value: mean over the samples, in the metric's unit.
        low: lower end of the confidence interval; None where none was computed.
        high: upper end.
        n: number of samples.
        seeds: seeds of the runs that `value` averages over; empty for a system without randomness.
        ties: how equal scores are judged; None where the figure knows none, or the file is older than this.
    """

    dataset: str
    split: str
    system: str
    metric: str
    value: FiniteFloat
    low: FiniteFloat | None
    high: FiniteFloat | None
    n: int
    seeds: tuple[int, ...]
    ties: Ties | None = None


class Comparison(Options):
    """Hold one paired test: a system against a reference on the same samples.

    Attributes:
        dataset: name of the data set.
        split: which part of it.
        system: what was measured.
        reference: what it is compared with.
        metric: with its cut-off.
        difference: mean of the system minus mean of the reference.
        low: lower end of the difference's confidence interval.
        high: upper end.
        p_value: two-sided, not corrected; None with too few users to tell.
        corrected: the same after Holm's correction for all comparisons of this file; None in older files.
        visible: the smallest difference that such a test sees with 80 % power; None in older files.
        num_clusters: users (or samples, if no user has two) the test rests on.
    """

    dataset: str
    split: str
    system: str
    reference: str
    metric: str
    difference: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    p_value: FiniteFloat | None
    corrected: FiniteFloat | None = None
    visible: FiniteFloat | None = None
    num_clusters: int


class Comparisons(Options):
    """Hold what comparisons.json says.

    Attributes:
        protocol: how the figures came about; empty if the file was written before it said so.
        comparisons: paired tests.
    """

    protocol: dict[str, Any]
    comparisons: tuple[Comparison, ...]

    @model_validator(mode="before")
    @classmethod
    def _without_protocol(cls, found: Any) -> Any:
        return {"protocol": {}, "comparisons": found} if isinstance(found, list) else found


_ROWS = TypeAdapter(list[ResultRow])
_Read = TypeVar("_Read")


def write_results(path: str | Path, rows: Sequence[ResultRow]) -> None:
    """Write rows as a JSON list. A reader sees the old file or the whole new one, never half of it."""
    _write(path, [row.model_dump(mode="json") for row in rows])


def write_comparisons(path: str | Path, comparisons: Sequence[Comparison], protocol: Mapping[str, Any]) -> None:
    """Write paired tests into a file beside the results, with the protocol of both, ready for JSON."""
    _write(path, {"protocol": dict(protocol), "comparisons": [row.model_dump(mode="json") for row in comparisons]})


def read_results(path: str | Path) -> list[ResultRow]:
    """Read rows back.

    Raises:
        ThinkrankError: if the file is missing or not JSON, or a row lacks a key, has one too many, or holds something
            else than it should; the message names the row.
    """
    return _read(path, _ROWS.validate_json)


def read_comparisons(path: str | Path) -> Comparisons:
    """Read paired tests and their protocol back; a plain list of tests, as files once were, has none.

    Raises:
        ThinkrankError: as `read_results`.
    """
    return _read(path, Comparisons.model_validate_json)


def _read(path: str | Path, validate: Callable[[bytes], _Read]) -> _Read:
    try:
        return validate(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise ThinkrankError(f"{path}: no such file") from error
    except ValidationError as error:
        first = error.errors()[0]
        at = first["loc"][1:] if first["loc"][:1] == ("comparisons",) and len(first["loc"]) > 1 else first["loc"]
        where = ", ".join(f"row {part}" if isinstance(part, int) else f"key {part!r}" for part in at[:2])
        raise ThinkrankError(f"{path}{', ' if where else ''}{where}: {first['msg']}") from error


def _write(path: str | Path, content: Any) -> None:
    with atomic_write(Path(path)) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")


def results_table(rows: Sequence[ResultRow]) -> Table:
    """Make a terminal table, one line per data set, split and system, one column per metric, in the order of the rows.

    What all rows share (the data set, the split, the number of samples) stands in the title and takes no column.
    """
    metrics, lines = _pivot(rows)
    varying = [place for place in range(3) if place == 2 or len({labels[place] for labels in lines}) > 1]
    shared = [next(iter(lines))[place] for place in range(3) if place not in varying] if lines else []
    counts = {row.n for row in rows}
    title = ", ".join([*shared, *(f"{n:,} samples" for n in counts if len(counts) == 1)])
    caption = ties_note(rows)
    table = _Results(title=escape(title) or None, title_justify="left", title_style="bold", caption=caption or None)
    for place in varying:
        table.add_column(("dataset", "split", "system")[place], overflow="fold", min_width=12)
    for metric in metrics:
        table.add_column(escape(metric), justify="right", no_wrap=True)
    for labels, cells in lines.items():
        names = [escape(labels[place]) for place in varying]
        table.add_row(*names, *(_figure(cells[m], "\n[dim]{}[/dim]") if m in cells else "" for m in metrics))
        table.figures[", ".join(names)] = {m: _figure(cells[m], " [dim]{}[/dim]") for m in metrics if m in cells}
    return table


class _Results(Table):
    """Table that keeps every word on a narrow terminal: there each figure has a line of its own.

    `figures` holds them by system and metric.
    """

    figures: dict[str, dict[str, str]]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.figures = {}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> "Iterator[RenderableType | Segment]":
        """Draw the table if every column has its room."""
        if self.__rich_measure__(console, options.update(max_width=_ANY_WIDTH)).minimum <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        yield from ([f"[bold]{self.title}[/bold]"] if self.title else [])
        for system, figures in self.figures.items():
            yield f"[bold]{system}[/bold]"
            yield from (f"  {escape(metric)} {figure}" for metric, figure in figures.items())
        yield from ([f"[dim]{self.caption}[/dim]"] if self.caption else [])


def results_markdown(rows: Sequence[ResultRow]) -> str:
    """Make the same table in Markdown, intervals in brackets."""
    metrics, lines = _pivot(rows)
    header = ["dataset", "split", "system", *metrics]
    body = [
        [*map(_escape_markdown, labels), *(_figure(cells[m], " [{}]") if m in cells else "" for m in metrics)]
        for labels, cells in lines.items()
    ]
    rule = ["---"] * 3 + ["---:"] * len(metrics)
    note = ties_note(rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, rule, *body]) + (f"\n{note}\n" if note else "")


def ties_note(rows: Sequence[ResultRow]) -> str:
    """Say how the rows judge equal scores; nothing where they do not tell."""
    rules = dict.fromkeys(row.ties for row in rows if row.ties is not None)
    return "; ".join(f"Ties: {TIES[rule]}" for rule in rules)


Labels = tuple[str, str, str]


def _pivot(rows: Sequence[ResultRow]) -> tuple[list[str], dict[Labels, dict[str, ResultRow]]]:
    """Collect metrics in order of first appearance; and per (data set, split, system) its rows by metric."""
    lines: dict[Labels, dict[str, ResultRow]] = {}
    for row in rows:
        lines.setdefault((row.dataset, row.split, row.system), {})[row.metric] = row
    return list(dict.fromkeys(row.metric for row in rows)), lines


def _figure(row: ResultRow, interval_format: str) -> str:
    value = format_value(row.value)
    if row.low is None or row.high is None:
        return value
    return value + interval_format.format(f"{format_value(row.low)}–{format_value(row.high)}")


def format_value(value: float) -> str:
    """Print four decimals below 1, as metrics are printed in this field; fewer above; no zero before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 1:
        return f"{value:.2f}" if abs(value) > 1 else f"{value:.3f}"
    return f"{value:.4f}".replace("0.", ".", 1)


def format_share(value: float, reference: float) -> str:
    """Print a value as per cent of a reference above 0, in two digits, or all where there are more."""
    percent = 100 * value / reference
    return f"{percent:.2g} %" if percent < 99.5 else f"{percent:,.0f} %"  # from there on .2g prints 1e+02


def _escape_markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
