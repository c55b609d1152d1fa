"""What a data set must be before anything is learnt from it: faults are refused, losses are counted.

A fault that would make results wrong raises a `ThinkrankError` naming file and row. What can be dropped without harm is
dropped with a notice: one line with file, count and first row.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import polars as pl

from thinkrank.data.reading import ROW, Table
from thinkrank.data.reading.table import require_columns
from thinkrank.data.timestamps import TimeUnit, holds_dates, in_seconds, parse_times

Untitled = Literal["drop", "id"]
"""What to do with items without a title: drop them and their interactions, or let their id stand for it."""


def read_events(
    file: str, blocks: Iterable[pl.DataFrame], columns: Mapping[str, str], unit: TimeUnit = "auto"
) -> Table:
    """Gather interactions from the blocks of a file.

    Args:
        file: its name, for messages.
        blocks: as the readers yield them.
        columns: which column of the file is the ``user``, ``item`` and, if there is one, the ``timestamp``, ``rating``
            and ``event``.
        unit: of the times.

    Returns:
        a table with these columns, times in seconds. Without times, the rows are the order.

    Raises:
        ThinkrankError: at the first missing column, null id, unreadable time or rating.
    """
    dates: bool | None = None  # settled by the first rows
    frames = []
    for block in blocks:
        require_columns(file, block.columns, *columns.values())
        table = Table(file, block.select(*(pl.col(there).alias(here) for here, there in columns.items()), ROW))
        if dates is None and block.height and "timestamp" in columns:
            dates = unit == "iso" or (unit == "auto" and holds_dates(table.frame["timestamp"]))
        table = parse_ids(parse_ids(table, "user"), "item")
        if "timestamp" in columns:
            table = parse_times(table, "timestamp", dates=bool(dates))
        frames.append((parse_ratings(table) if "rating" in columns else table).frame)
    table = Table.gather(file, frames)
    return table if dates or "timestamp" not in columns else in_seconds(table, "timestamp", unit)


def parse_ids(table: Table, column: str) -> Table:
    """Turn a column of ids into text, and refuse missing ones."""
    table = table.with_frame(table.frame.with_columns(pl.col(column).cast(pl.String)))
    missing = pl.col(column).is_null() | (pl.col(column).str.strip_chars() == "")
    table.refuse_where(missing, f"{column} is missing. Give it a value or remove the row.")
    return table


def parse_ratings(table: Table) -> Table:
    """Turn the ratings into numbers, null where there is none, and refuse what is neither."""
    text = pl.col("rating").cast(pl.String).str.strip_chars()
    number = pl.col("rating").cast(pl.Float64, strict=False)
    if table.frame.schema["rating"] == pl.String:
        number = pl.when(text != "").then(text).cast(pl.Float64, strict=False)
    parsed = table.with_frame(table.frame.with_columns(number.alias("_number")))
    wrong = (pl.col("_number").is_null() & (text != "")) | pl.col("_number").is_infinite()
    parsed.refuse_where(wrong, "rating {value} is not a number. Mend or remove the row.", show="rating")
    return table.with_frame(parsed.frame.with_columns(pl.col("_number").fill_nan(None).alias("rating")).drop("_number"))


def check_items(table: Table, *, keep_first: bool) -> tuple[Table, list[str]]:
    """Turn item ids into text, and see that they are unique.

    Args:
        table: the items.
        keep_first: keep the first row of a repeated id, with a notice; else refuse it.

    Returns:
        the items and the notices.

    Raises:
        ThinkrankError: at a missing or, unless `keep_first`, a repeated id.
    """
    table = parse_ids(table, "item")
    again = ~pl.col("item").is_first_distinct()
    if not keep_first:
        way_out = "item id {value} occurs a second time. Keep one row for each item."
        table.refuse_where(again, way_out, show="item")
    return _drop(table, again, "rows that repeat an item id")


def settle_untitled(items: Table, untitled: Untitled) -> tuple[Table, list[str], pl.Series]:
    """Drop items without a title, or give them their id for one.

    Returns:
        the items, the notices, and the ids of those dropped.
    """
    missing = pl.col("title").is_null()
    ids = items.frame.filter(missing)["item"]
    if untitled == "drop":
        items, notices = _drop(items, missing, "items without a title")
        return items, notices, ids
    notices = _notices(items, missing, "", "items without a title go by their id")
    items = items.with_frame(items.frame.with_columns(pl.col("title").fill_null(pl.col("item"))))
    return items, notices, ids.clear()


def drop_unknown_items(events: Table, items: Table, untitled: pl.Series) -> tuple[Table, list[str]]:
    """Drop interactions with items that have no title or are not there at all."""
    events, notices = _drop(events, pl.col("item").is_in(untitled.implode()), "interactions whose item has no title")
    known = events.frame["item"].is_in(items.frame["item"].implode())
    if known.all():
        return events, notices
    marked = events.with_frame(events.frame.with_columns(known.alias("_known")))
    kept, more = _drop(marked, ~pl.col("_known"), f"interactions whose item is not in {items.file}")
    return kept.with_frame(kept.frame.drop("_known")), notices + more


def drop_repeated_events(events: Table) -> tuple[Table, list[str]]:
    """Sort interactions by user, time and row, and drop those with the same user, item and time as an earlier one.

    Without times they stay as they are: no two are at the same time.
    """
    if "timestamp" not in events.frame.columns:
        return events, []
    frame = events.frame.sort("user", "timestamp", ROW)
    user, time = pl.col("user"), pl.col("timestamp")
    # Only neighbours in time can be equal, and few are; a hash of all ten million rows would be the largest thing here.
    meets_last = ((user == user.shift()) & (time == time.shift())).fill_null(value=False)
    ties = frame.select("user", "item", "timestamp", ROW).filter(meets_last | meets_last.shift(-1, fill_value=False))
    again = ties.filter(~pl.struct("user", "item", "timestamp").is_first_distinct())[ROW]
    what = "interactions that repeat a user, item and time"
    events = events.with_frame(frame)
    return _drop(events, pl.col(ROW).is_in(again.implode()), what) if len(again) else (events, [])


def _drop(table: Table, fault: pl.Expr, what: str) -> tuple[Table, list[str]]:
    notices = _notices(table, fault, "dropped ", what)
    return (table.with_frame(table.frame.filter(~fault)) if notices else table), notices


def _notices(table: Table, fault: pl.Expr, verb: str, what: str) -> list[str]:
    count, row = table.frame.lazy().filter(fault).select(pl.len(), pl.col(ROW).min().alias("first")).collect().row(0)
    return [f"{table.file}: {verb}{count:,} {what} (first: row {row})"] if count else []
