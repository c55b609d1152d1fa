"""What a data set must be before anything is learnt from it: faults are reported, losses are counted.

A row that would make results wrong is reported to the open intake (see `thinkrank.data.reading.intake`), or raised
where none is open. What can be dropped without harm is dropped with a notice: one line with file, count and first row.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import polars as pl

from thinkrank.data.columns import number, refuse_type, tell
from thinkrank.data.reading import ROW, Table
from thinkrank.data.reading.intake import note
from thinkrank.data.reading.parts import Rows, in_parts
from thinkrank.data.reading.table import require_columns
from thinkrank.data.timestamps import FINE, Clock, TimeUnit
from thinkrank.errors import ThinkrankError

Untitled = Literal["drop", "id"]
"""What to do with items without a title: drop them and their interactions, or let their id stand for it."""

# What programs write where there is nothing. As an id it would make one person of everybody without one.
_NOTHING = ("", "null", "nan", "none", "n/a", "#n/a", "\\n", "<na>", "nat")
_SHORTENED = r"^\d(?:[.,]\d+)?[eE]\+\d+$"
_RECORD = r"^\s*(?:\[.*\]|\{.*\})\s*$"
_WHOLE_FLOAT = r"^\d+\.0+$"


def read_events(
    file: str,
    blocks: Iterable[pl.DataFrame],
    columns: Mapping[str, str],
    unit: TimeUnit = "auto",
    form: str | None = None,
) -> Table:
    """Gather interactions from the blocks of a file.

    Args:
        file: its name, for messages.
        blocks: as the readers yield them.
        columns: which column of the file is the ``user``, ``item`` and, if there is one, the ``timestamp``, ``rating``
            and ``event``.
        unit: of the times.
        form: of times that are dates as text; None for the usual ones.

    Returns:
        a table with these columns, times in seconds and, if anything is left below a second, `FINE`. Without times, the
        rows are the order.

    Raises:
        ThinkrankError: if a column is missing or of a type that holds no such values; or at the first missing id,
            unreadable time or rating, if no intake is open.
    """
    clock = Clock("timestamp", unit, form) if "timestamp" in columns else None
    table = Table.gather(file, _checked(file, blocks, columns, clock), to_disk=True)
    table = tidy_ids(tidy_ids(table, "user"), "item")
    if clock is None:
        return table
    table = clock.in_seconds(table)
    if FINE in table.rows.columns and table.rows.each(lambda rows: rows.select((pl.col(FINE) != 0).any()))[FINE].any():
        return table
    return table.map(lambda rows: rows.drop(FINE, strict=False))


def _checked(
    file: str, blocks: Iterable[pl.DataFrame], columns: Mapping[str, str], clock: Clock | None
) -> Iterator[pl.DataFrame]:
    """Yield the interactions of each block, those that are at fault left out."""
    are_whole: dict[str, bool] = {}
    for block in blocks:
        require_columns(file, block.columns, *columns.values())
        table = Table(file, block.select(*(pl.col(there).alias(here) for here, there in columns.items()), ROW))
        for column in ("user", "item"):
            is_whole = holds_whole(table.frame[column])
            if are_whole.setdefault(column, is_whole) != is_whole:  # 1 would be another id than 1.0
                raise ThinkrankError(f"{file}: {column} is whole numbers first and others later. Give text.")
        table = parse_ids(parse_ids(table, "user", tidy=False), "item", tidy=False)
        if clock is not None:
            table = clock.read(table)
        if "event" in columns:
            refuse_type(table, "event")
            table = table.with_frame(table.frame.with_columns(pl.col("event").cast(pl.String).str.strip_chars()))
        yield (parse_ratings(table) if "rating" in columns else table).frame


def parse_ids(table: Table, column: str, *, tidy: bool = True) -> Table:
    """Turn a column of ids into text, and report missing ones and those that a spreadsheet shortened.

    Args:
        table: the rows.
        column: of ids.
        tidy: also do what takes the whole column to see, see `tidy_ids`.
    """
    refuse_type(table, column)
    dtype = table.frame.schema[column]
    if dtype in (pl.Boolean, pl.Date, pl.Datetime):
        raise ThinkrankError(f"{table.file}: {column} is {dtype}. Give text or whole numbers.")
    text = pl.col(column).cast(pl.String)
    if (dtype.is_float() or dtype.is_decimal()) and holds_whole(table.frame[column]):
        text = pl.col(column).cast(pl.Float64).fill_nan(None).cast(pl.Int64).cast(pl.String)
    table = table.with_frame(table.frame.with_columns(text.alias(column)))
    bare = pl.col(column).str.strip_chars().str.to_lowercase()
    missing = pl.col(column).is_null() | bare.is_in(_NOTHING)
    table = table.without(missing, f"{column} is missing. Give it a value or remove the row.")
    record = f"{column} {{value}} is a list or a record. Give one text or number."
    table = table.without(pl.col(column).str.contains(_RECORD), record, show=column)
    shortened = f"{column} {{value}} was shortened by a spreadsheet. Export it as text."
    table = table.without(pl.col(column).str.contains(_SHORTENED), shortened, show=column)
    return tidy_ids(table, column) if tidy else table


def holds_whole(ids: pl.Series) -> bool:
    """Tell whether a column holds no numbers but whole ones."""
    if not (ids.dtype.is_float() or ids.dtype.is_decimal()):
        return True
    return bool((ids.cast(pl.Float64).drop_nulls().drop_nans() % 1 == 0).all())


def tidy_ids(table: Table, column: str) -> Table:
    """Strip blanks around ids, so that one person is not two, and the ``.0`` of ids that all are such numbers."""
    name = pl.col(column)
    blank = name != name.str.strip_chars()
    looks = {"blank": blank.any(), "whole": name.str.contains(_WHOLE_FLOAT).all()}
    found = table.rows.each(lambda rows: rows.select(name.first(), **looks))
    if found["blank"].any():
        tell(table, blank, f"{column} ids with blanks around them, which were taken off")
        table = table.map(lambda rows: rows.with_columns(name.str.strip_chars()))
        found = table.rows.each(lambda rows: rows.select(name.first(), **looks))
    bare = found[column].drop_nulls()
    if len(bare) and found["whole"].all():
        note(f"{table.file}: every {column} id ends in .0, which was taken off ({bare[0]} is {bare[0].split('.')[0]})")
        table = table.map(lambda rows: rows.with_columns(name.str.extract(r"^(\d+)")))
    return table


def parse_ratings(table: Table) -> Table:
    """Turn the ratings into numbers, null where there is none, and report what is neither."""
    refuse_type(table, "rating")
    text = pl.col("rating").cast(pl.String).str.strip_chars()
    parsed = table.with_frame(table.frame.with_columns(number(table.frame["rating"]).alias("_number")))
    wrong = pl.col("_number").is_null() & ~text.is_in(["", "NaN"])
    parsed = parsed.without(wrong, "rating {value} is not a number. Mend or remove the row.", show="rating")
    return parsed.with_frame(parsed.frame.with_columns(pl.col("_number").alias("rating")).drop("_number"))


def parse_numbers(table: Table, column: str, *, empty_is_zero: bool) -> Table:
    """Turn a column into finite numbers; true is 1, and so are ``true`` and ``yes``.

    Args:
        table: the rows.
        column: its name.
        empty_is_zero: whether an empty field is 0; if not it is reported.
    """
    refuse_type(table, column)
    raw = table.frame[column]
    found = number(raw)
    if raw.dtype in (pl.String, pl.Categorical, pl.Enum):
        truth = raw.cast(pl.String).str.strip_chars().str.to_lowercase()
        found = found.fill_null(truth.replace_strict(_TRUTH, default=None, return_dtype=pl.Float64))
    marked = table.with_frame(table.frame.with_columns(found.alias("_number")))
    there = pl.col(column).cast(pl.String).str.strip_chars().fill_null("") != ""
    problem = f"{column} {{value}} is not a number. Mend or remove the row."
    marked = marked.without(pl.col("_number").is_null() & there, problem, show=column, whole=_whole(table))
    if not empty_is_zero:
        empty = f"{column} is missing. Give it a value or remove the row."
        marked = marked.without(pl.col("_number").is_null(), empty, whole=_whole(table))
    return marked.with_frame(marked.frame.with_columns(pl.col("_number").fill_null(0).alias(column)).drop("_number"))


_TRUTH = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0, "t": 1.0, "f": 0.0, "y": 1.0, "n": 0.0}


def _whole(table: Table) -> str | None:
    """Return the column by which rows belong together: a list of which a slot is wrong is not what was shown."""
    return "list" if "list" in table.frame.columns else None


def check_items(table: Table, *, keep_first: bool) -> tuple[Table, list[str]]:
    """Turn item ids into text, and see that they are unique.

    Args:
        table: the items.
        keep_first: keep the first row of a repeated id, with a notice; else report the others.

    Returns:
        the items and the notices.

    Raises:
        ThinkrankError: at a missing or, unless `keep_first`, a repeated id, if no intake is open.
    """
    table = parse_ids(table, "item")
    again = ~pl.col("item").is_first_distinct()
    if not keep_first:
        way_out = "item id {value} occurs a second time. Keep one row for each item."
        return table.without(again, way_out, show="item"), []
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
    notices = items.count(missing, "items without a title go by their id")
    items = items.with_frame(items.frame.with_columns(pl.col("title").fill_null(pl.col("item"))))
    return items, notices, ids.clear()


def drop_unknown_items(events: Table, items: Table, untitled: pl.Series) -> tuple[Table, list[str]]:
    """Drop interactions with items that have no title or are not there at all.

    Where an id is unknown only because a spreadsheet ate its leading zeros, here or there, it is mended.
    """
    notices: list[str] = []
    if len(untitled):
        what = "interactions whose item has no title"
        events, notices = _drop(events, pl.col("item").is_in(untitled.implode()), what)
    item, ids = pl.col("item"), items.frame["item"]
    unknown = ~item.is_in(ids.implode())
    strange = events.rows.each(lambda rows: rows.filter(unknown).select(item.unique(maintain_order=True)))
    if strange.is_empty():
        return events, notices
    events = _with_zeros(events, ids, strange.to_series().unique(maintain_order=True))
    found = events.rows.each(lambda rows: rows.select(item.filter(unknown).first(), pl.len(), unknown=unknown.sum()))
    first = found["item"].drop_nulls().head(1).to_list()
    what = f"interactions whose item is not in {items.file}" + (f", such as {first[0]!r}" if first else "")
    if 2 * found["unknown"].sum() > found["len"].sum() and len(ids):
        what += f", where ids are like {ids[0]!r}"
    events, more = _drop(events, unknown, what)
    return events, notices + more


def _with_zeros(events: Table, ids: pl.Series, unknown: pl.Series) -> Table:
    """Give unknown ids the zeros, or take them from them, that make each the id of exactly one item."""
    bare = pl.DataFrame({"id": ids, "bare": ids.str.strip_chars_start("0")}).filter(pl.col("id").str.contains(r"^\d+$"))
    bare = bare.filter(pl.col("bare").is_unique())
    wanted = pl.DataFrame({"item": unknown, "bare": unknown.str.strip_chars_start("0")})
    found = wanted.filter(pl.col("item").str.contains(r"^\d+$")).join(bare, on="bare", maintain_order="left")
    if found.is_empty():
        return events
    one = f"{found['item'][0]} is {found['id'][0]}"
    tell(events, pl.col("item").is_in(found["item"].implode()), f"item ids were found by their leading zeros ({one})")
    return events.map(lambda rows: rows.with_columns(pl.col("item").replace(found["item"], found["id"])))


def drop_repeated_events(events: Table) -> tuple[Table, list[str]]:
    """Sort interactions by user, time and row, and drop those that repeat user, item, event and time of another.

    Without times they stay as they are: no two are at the same time.
    """
    columns = events.rows.columns
    if "timestamp" not in columns:
        return events, []
    fine = [FINE] if FINE in columns else []
    user, time = pl.col("user"), pl.col("timestamp")
    # Only neighbours in time can be equal, and few are; a hash of all ten million rows would be the largest thing here.
    meets_last = ((user == user.shift()) & (time == time.shift())).fill_null(value=False)
    same = ["user", "item", "timestamp", *fine, *(["event"] if "event" in columns else [])]
    repeated = []

    def once() -> Iterator[pl.DataFrame]:
        for part in in_parts(events.rows, "user"):  # sorting takes the longer for a row the more there are
            frame = part.sort("user", "timestamp", *fine, ROW)
            ties = frame.select(*same, ROW).filter(meets_last | meets_last.shift(-1, fill_value=False))
            again = ties.filter(~pl.struct(same).is_first_distinct())[ROW]
            repeated.append(again)
            yield frame.filter(~pl.col(ROW).is_in(again.implode())) if len(again) else frame

    kept, again = Rows.gathered(once()), pl.concat(repeated)
    what = "interactions that repeat a user, item and time"
    return events.with_frame(kept), events.tell(len(again), again.min(), what, verb="dropped ")


def _drop(table: Table, fault: pl.Expr, what: str) -> tuple[Table, list[str]]:
    notices = table.count(fault, what, verb="dropped ")
    return (table.map(lambda rows: rows.filter(~fault)) if notices else table), notices
