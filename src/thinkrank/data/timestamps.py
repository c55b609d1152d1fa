"""Times in whichever unit a file has them, as seconds since 1970, UTC."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Int64

from thinkrank.data.reading import ROW, Table

TimeUnit = Literal["auto", "s", "ms", "us", "iso"]
"""What a number means, or ``iso`` for dates as text. ``auto`` tells them apart by their size."""

_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
_UNITS = list(_NAMES)  # from coarse to fine
# As seconds, 1e11 is the year 5138; as milliseconds it is March 1973, before anybody logged a click.
_TOO_LARGE = {"s": 10**11, "ms": 10**14, "us": 10**17}
_ISO = r"^\s*(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(:\d{2}(?:\.\d+)?)?\s*(Z|[+-]\d{2}:?\d{2})?)?\s*$"


def holds_dates(times: pl.Series) -> bool:
    """Tell whether a column holds dates (by type, or by its first text) and not numbers."""
    if times.dtype != pl.String:
        return times.dtype in (pl.Date, pl.Datetime)
    return bool(times.drop_nulls().head(1).str.contains(_ISO).any())


def parse_times(table: Table, column: str, *, dates: bool) -> Table:
    """Replace a column of times by whole numbers: numbers as they stand, or seconds where it holds dates.

    Call it on each block, then `in_seconds` on the whole: one block cannot tell which unit the rest is in.

    Args:
        table: the rows.
        column: text, numbers or dates; text without an offset is taken as UTC.
        dates: whether to expect dates.

    Raises:
        ThinkrankError: at the first row whose time is missing, unreadable or before 1970.
    """
    raw = table.frame[column]
    parsed = _parse_dates(raw) if dates else _parse_numbers(raw)
    both = table.with_frame(table.frame.with_columns(parsed.alias("_parsed"), raw.cast(pl.String).alias(column)))
    missing = pl.col(column).is_null() | (pl.col(column).str.strip_chars() == "")
    both.refuse_where(missing, f"{column} is missing. Give it a value or remove the row.")
    kind = "an ISO date" if dates else "a number"
    both.refuse_where(
        pl.col("_parsed").is_null(), f"{column} {{value}} is not {kind}. Mend or remove the row.", show=column
    )
    both.refuse_where(pl.col("_parsed") < 0, f"{column} {{value}} is before 1970. Mend or remove the row.", show=column)
    return table.with_frame(both.frame.with_columns(pl.col("_parsed").alias(column)).drop("_parsed"))


def in_seconds(table: Table, column: str, unit: TimeUnit) -> Table:
    """Convert a column of whole numbers to seconds; fractions of a second are cut off.

    Args:
        table: all rows of a file, after `parse_times`.
        column: the times.
        unit: what the numbers mean; ``auto`` takes the unit that fits most rows.

    Raises:
        ThinkrankError: at the first row that must be in another unit than the rest.
    """
    looks_like = pl.lit("s")
    for coarse, fine in pairwise(_UNITS):
        looks_like = pl.when(pl.col(column) >= _TOO_LARGE[coarse]).then(pl.lit(fine)).otherwise(looks_like)
    frame = table.frame
    counts = dict(frame.select(looks_like.alias("unit")).to_series().value_counts().iter_rows())
    is_given = unit in _PER_SECOND
    rule = unit if is_given else max(_UNITS, key=lambda name: (counts.get(name, 0), -_UNITS.index(name)))
    # Where the unit is given as milliseconds, small numbers are early times; where it is not, they are another unit.
    suspects = [name for name in counts if (_UNITS.index(name) > _UNITS.index(rule) if is_given else name != rule)]
    if suspects or rule not in _PER_SECOND:
        marked = frame.with_columns(looks_like.alias("_unit")).filter(pl.col("_unit").is_in(suspects or [rule]))
        _refuse_unit(table.with_frame(marked.sort(ROW)), column, rule, is_given=is_given)
    if rule == "s":
        return table
    return table.with_frame(frame.with_columns(pl.col(column) // _PER_SECOND[rule]))


def _refuse_unit(suspects: Table, column: str, rule: str, *, is_given: bool) -> None:
    row, suspect = suspects.frame.row(0, named=True)[ROW], suspects.frame["_unit"][0]
    rest = f"time_unit is {rule!r}" if is_given else f"the other rows are {_NAMES[rule]}"
    way_out = f"Use time_unit={suspect!r} or mend the row." if suspect in ("ms", "us") else "Mend the row."
    if rule not in _PER_SECOND:
        rest, way_out = "no time_unit means those", "Divide the column by 1000."
    suspects.refuse(row, f"{column} {{value}} looks like {_NAMES[suspect]}; {rest}. {way_out}", show=column)


def _parse_numbers(raw: pl.Series) -> pl.Series:
    if raw.dtype.is_integer():
        return raw.cast(pl.Int64, strict=False)
    if raw.dtype != pl.String:
        return raw.cast(pl.Float64, strict=False).fill_nan(None).floor().cast(pl.Int64, strict=False)
    text = raw.str.strip_chars()
    whole = text.cast(pl.Int64, strict=False)
    if whole.null_count() == raw.null_count():
        return whole
    # 881250949.0, as some tools write whole numbers
    return whole.fill_null(text.cast(pl.Float64, strict=False).fill_nan(None).floor().cast(pl.Int64, strict=False))


def _parse_dates(raw: pl.Series) -> pl.Series:
    if raw.dtype in (pl.Date, pl.Datetime):
        return raw.dt.epoch("s")
    part = raw.cast(pl.String).str.extract_groups(_ISO).struct.unnest()
    date, minutes, seconds, offset = (pl.col(name) for name in part.columns)
    full = pl.concat_str(
        date,
        pl.lit(" "),
        minutes.fill_null("00:00"),
        seconds.fill_null(":00"),
        pl.when(offset == "Z").then(pl.lit("+00:00")).otherwise(offset.fill_null("+00:00")),
    )
    return part.select(full.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%z", strict=False).dt.epoch("s")).to_series()


def date_range(times: Int64[np.ndarray, "T"]) -> dict[str, str] | None:
    """Return the first and last of some times (seconds since 1970) in ISO 8601, UTC; None if there are none."""
    if not len(times):
        return None
    return {"first": _iso(int(times.min())), "last": _iso(int(times.max()))}


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat()
