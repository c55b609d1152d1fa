"""The section of faithfulness: is what was written true, and does it decide the answer?"""

from collections.abc import Sequence

from thinkrank.evaluate.faithfulness import REMOVED, REPLACED
from thinkrank.evaluate.results import ResultRow, format_value
from thinkrank.report.html import Html, join, tag
from thinkrank.report.tables import Cell, table

CHANGES = (
    "Each text was taken away, cut, or exchanged for another user's, and the same model read again. Rank correlation "
    "and overlap are 1, and the change is 0, where a text decides nothing; the change is that of the true item's "
    "log-probability, in nats, below 0 where the text had helped."
)
CLAIMS = (
    "A claim is a title, attribute, year, count or word for popularity that can be compared with the data. Agreement "
    "is the share of named attributes that the recommended items have, beside the same with another user's items."
)
WAYS = {REMOVED: "removed", REPLACED: "another user's text instead"}


def faithfulness_section(rows: Sequence[ResultRow]) -> Html | None:
    """Write both tables of every stage that was measured; None without rows."""
    if not rows:
        return None
    parts = [_stage(system, [row for row in rows if row.system == system]) for system in _distinct(rows, "system")]
    return tag("section", tag("h2", "Are the reasons true, and do they decide?"), *parts, id="reasons")


def _stage(system: str, rows: Sequence[ResultRow]) -> Html:
    pairs = {row.metric: tuple(row.metric.split(": ", 1)) for row in rows}
    changes = [row for row in rows if len(pairs[row.metric]) == 2 and not row.metric.startswith("named attributes")]
    others = [row for row in rows if row not in changes]
    return join(
        tag("h3", tag("bdi", system)),
        _claims(others) if others else None,
        tag("p", CLAIMS, class_="facts") if others else None,
        _changes(changes) if changes else None,
        tag("p", CHANGES, class_="facts") if changes else None,
    )


def _claims(rows: Sequence[ResultRow]) -> Html:
    lines: list[tuple[Cell, list[Cell]]] = [(row.metric, [_value(row), f"{row.n:,}"]) for row in rows]
    return table("What is claimed", "figure", ["share", "of"], lines)


def _changes(rows: Sequence[ResultRow]) -> Html:
    by = {tuple(row.metric.split(": ", 1)): row for row in rows}
    ways, measures = (list(dict.fromkeys(key[place] for key in by)) for place in (0, 1))
    lines: list[tuple[Cell, list[Cell]]] = []
    for way in ways:
        of_way = [by.get((way, measure)) for measure in measures]
        n = next(row.n for row in of_way if row is not None)
        name = join(tag("span", WAYS.get(way, way)), tag("small", f"{n:,} texts"))
        lines.append((name, ["–" if row is None else _value(row) for row in of_way]))
    return table("What the answer owes to the text", "the text was", measures, lines)


def _value(row: ResultRow) -> Html:
    value = tag("span", format_value(row.value), class_="number")
    if row.low is None or row.high is None:
        return value
    return join(value, tag("small", f"{format_value(row.low)} to {format_value(row.high)}"))


def _distinct(rows: Sequence[ResultRow], name: str) -> list[str]:
    return list(dict.fromkeys(getattr(row, name) for row in rows))
