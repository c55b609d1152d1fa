"""Times in whichever form a file has them, as seconds since 1970, UTC, and what is left below a second."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Int64

from thinkrank.data.reading import Table
from thinkrank.data.reading.intake import note, setting, takes
from thinkrank.errors import ThinkrankError

TimeUnit = Literal["auto", "s", "ms", "us", "ns", "days", "excel", "yyyymmdd", "iso"]
"""What a number means, or ``iso`` for dates as text. ``auto`` tells them apart by their size."""

FINE = "__fine__"
"""The column that holds the microseconds behind the second, so that what happened within one keeps its order."""

_NAMES = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "microseconds",
    "days": "days since 1970",
    "excel": "days as Excel counts them",
    "yyyymmdd": "dates such as 20200131",
}
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_UNITS = list(_PER_SECOND)  # from coarse to fine
# As seconds, 1e11 is the year 5138; as milliseconds it is March 1973, before anybody logged a click.
_TOO_LARGE = {"s": 10**11, "ms": 10**14, "us": 10**17}
# From 1990 to 2050; as seconds these are hours of the first day of 1970.
_DAYS = (7_305, 29_220)
_EXCEL = (32_874, 54_789)
_EXCEL_1970 = 25_569
_SMALL = 10**8
_LATEST = 4_133_980_799  # the end of 2100
_DAY, _NANO = 86_400, 1_000_000_000

_BASIC = r"^\s*(\d{4})(\d{2})(\d{2})[T ]\s*(\d{2}):?(\d{2})"
_BASIC_SECONDS = r"^(\d{4}-\d{2}-\d{2} \d{2}:\d{2})(\d{2})"
_CLOCK = r"(?:[T ]\s*(\d{1,2}:\d{2})(:\d{2}(?:[.,]\d+)?)?\s*(Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?)?\s*$"
_ISO = re.compile(r"^\s*(\d{4})-(\d{1,2})-(\d{1,2})" + _CLOCK)
_SLASHED_ISO = re.compile(r"^\s*(\d{4})/(\d{1,2})/(\d{1,2})" + _CLOCK)
_DOTTED = re.compile(r"^\s*(\d{1,2})\.(\d{1,2})\.(\d{4})" + _CLOCK)
_SLASHED = re.compile(r"^\s*(\d{1,2})[/-](\d{1,2})[/-](\d{4})" + _CLOCK)
_FORMS = (
    (r"\d{1,2}\.\d{1,2}\.\d{2}(?!\d)", "%d.%m.%y"),
    (r"(?:1[3-9]|2\d|3[01])/\d{1,2}/\d{2}(?!\d)", "%d/%m/%y"),
    (r"\d{1,2}/\d{1,2}/\d{2}(?!\d)", "%m/%d/%y"),
    (r"\d{1,2}/\d{1,2}/\d{4}", "%m/%d/%Y"),
    (r"[A-Za-z]{3} \d{1,2},? \d{4}", "%b %d, %Y"),
    (r"[A-Za-z]{4,} \d{1,2},? \d{4}", "%B %d, %Y"),
    (r"\d{1,2} [A-Za-z]{3} \d{4}", "%d %b %Y"),
    (r"\d{1,2}-[A-Za-z]{3}-\d{4}", "%d-%b-%Y"),
    (r"\d{1,2}-[A-Za-z]{3}-\d{2}(?!\d)", "%d-%b-%y"),
    (r"\d{1,2} [A-Za-z]{4,} \d{4}", "%d %B %Y"),
)
"""What dates look like, and their format."""
_DATE = r"^\s*\d{8}[T ]\s*\d|^\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}"
_FIRST, _SECOND = r"^\s*(\d{1,2})[/-]", r"^\s*\d{1,2}[/-](\d{1,2})[/-]"


def holds_dates(times: pl.Series) -> bool:
    """Tell whether a column holds dates (by type, or by most of its texts) and not numbers."""
    if times.dtype != pl.String:
        return times.dtype in (pl.Date, pl.Datetime)
    texts = times.drop_nulls()
    return bool(len(texts)) and 2 * int(texts.str.contains(_DATE).sum()) > len(texts)


@dataclass
class Clock:
    """Read a column of times block by block: `read` each of them, then `in_seconds` the whole.

    One block cannot tell which unit the numbers of the rest are in; how dates are written, the first block tells.

    Attributes:
        column: its name.
        unit: of numbers, or ``iso`` for dates; ``auto`` finds out.
        form: of dates as text, such as ``%d.%m.%Y %H:%M``; None for the usual ones.
    """

    column: str
    unit: TimeUnit = "auto"
    form: str | None = None
    _dates: bool | None = None
    _day_first: bool | None = None

    def read(self, table: Table) -> Table:
        """Replace the times by whole numbers, or seconds where they are dates, and add `FINE`.

        Raises:
            ThinkrankError: if the column's type holds no times, or a row is at fault and no intake is open.
        """
        column, raw = self.column, table.frame[self.column]
        if raw.dtype.is_nested() or raw.dtype in (pl.Duration, pl.Time, pl.Boolean, pl.Binary, pl.Object):
            raise ThinkrankError(f"{table.file}: {column} is {raw.dtype}. Give numbers, dates or text.")
        if raw.dtype in (pl.Categorical, pl.Enum):
            raw = raw.cast(pl.String)
        if self._dates is None and table.frame.height:
            self._dates = self.form is not None or self.unit == "iso" or (self.unit == "auto" and holds_dates(raw))
        parsed = self._dates_of(table.file, raw) if self._dates else _numbers(raw)
        text = raw.cast(pl.String).alias(column)
        both = table.with_frame(
            table.frame.with_columns(parsed["whole"].alias("_whole"), parsed["fine"].alias(FINE), text)
        )
        missing = pl.col(column).is_null() | (pl.col(column).str.strip_chars() == "")
        both = both.without(missing, f"{column} is missing. Give it a value or remove the row.")
        kind = "a number, nor a date such as 2020-01-31 10:00"
        if self._dates:
            kind = f"a date such as {self.form}" if self.form else "an ISO date, such as 2020-01-31 10:00"
        unread = pl.col("_whole").is_null()
        values = both.frame.lazy().filter(unread).select(column).head(1).collect().to_series()
        form = _form_like(values[0]) if len(values) and not self.form and takes("time_format") else ""
        way_out = f", or say how dates are written: {setting('time_format', form)}" if form else ""
        problem = f"{column} {{value}} is not {kind}. Mend or remove the row{way_out}."
        both = both.without(unread, problem, show=column)
        if self._dates:
            late = f"{column} {{value}} is after 2100, as dates are that stand for none. Mend or remove the row."
            both = both.without(pl.col("_whole") > _LATEST, late, show=column)
        early = f"{column} {{value}} is before 1970. Mend or remove the row."
        both = both.without(pl.col("_whole") < 0, early, show=column)
        return both.with_frame(both.frame.with_columns(pl.col("_whole").alias(column)).drop("_whole"))

    def in_seconds(self, table: Table) -> Table:
        """Convert the whole column to seconds; what is below a second stays in `FINE`.

        Raises:
            ThinkrankError: if a row must be in another unit than the rest and no intake is open.
        """
        return table if self._dates else _in_seconds(table, self.column, self.unit)

    def _dates_of(self, file: str, raw: pl.Series) -> pl.DataFrame:
        if raw.dtype == pl.Date:
            return _parts(raw.cast(pl.Int64) * (_DAY * 1_000_000))
        if isinstance(raw.dtype, pl.Datetime):
            fine = raw.dt.epoch("ns") % 1000 if raw.dtype.time_unit == "ns" else 0
            return _parts(raw.dt.epoch("us")).with_columns(pl.col("fine") + fine)
        texts = (
            raw.cast(pl.String).str.replace(_BASIC, "${1}-${2}-${3} ${4}:${5}").str.replace(_BASIC_SECONDS, "${1}:${2}")
        )
        if self.form is not None:
            try:
                return _parts(
                    texts.str.strip_chars().str.to_datetime(self.form, time_unit="us", strict=False).dt.epoch("us")
                )
            except pl.exceptions.PolarsError as error:
                raise ThinkrankError(f"time_format {self.form!r} is no format of dates ({error})") from error
        micros = _dated(texts, _ISO, (0, 1, 2)).fill_null(_dated(texts, _SLASHED_ISO, (0, 1, 2)))
        dotted = _dated(texts, _DOTTED, (2, 1, 0))
        if dotted.null_count() < len(dotted):
            note(f"{file}: {self.column} was read as day.month.year where it has dots")
            micros = micros.fill_null(dotted)
        slashed = texts.filter(texts.str.contains(_SLASHED.pattern).fill_null(value=False))
        if len(slashed):
            micros = micros.fill_null(
                _dated(texts, _SLASHED, (2, 1, 0) if self._is_day_first(file, slashed) else (2, 0, 1))
            )
        return _parts(micros)

    def _is_day_first(self, file: str, texts: pl.Series) -> bool:
        if self._day_first is None:
            first, second = (int((texts.str.extract(at).cast(pl.Int64) > 12).sum()) for at in (_FIRST, _SECOND))
            if bool(first) == bool(second):
                why = "no day is above 12" if not first else "some have the day first and some the month"
                options = " or ".join(setting("time_format", form) for form in ("%d/%m/%Y", "%m/%d/%Y"))
                way_out = f"Say which: {options}." if takes("time_format") else "Write them as 2024-01-31."
                raise ThinkrankError(
                    f"{file}: {self.column} such as {texts[0]!r} may be day/month or month/day ({why}). {way_out}"
                )
            self._day_first = first > 0
            order = "day/month/year" if self._day_first else "month/day/year"
            note(f"{file}: {self.column} was read as {order} where the year comes last")
        return self._day_first


def read_times(table: Table, column: str, unit: TimeUnit = "auto", form: str | None = None) -> Table:
    """Read a column of times at once, see `Clock`.

    Returns:
        the rows that are not at fault, the column in seconds and `FINE` beside it.
    """
    clock = Clock(column, unit, form)
    return clock.in_seconds(clock.read(table))


def _form_like(text: str) -> str:
    """Guess the format of a date that is not read by itself; an empty text if it looks like none."""
    for pattern, form in _FORMS:
        match = re.match(pattern, text.strip())
        if match:
            clock = re.fullmatch(r"(?:([T ,]+)\d{1,2}:\d{2}(:\d{2})?( ?[APap][Mm])?)?", text.strip()[match.end() :])
            if clock is None:
                return ""
            if clock[1] is None:
                return form
            return (
                f"{form}{clock[1]}{'%I' if clock[3] else '%H'}:%M{':%S' if clock[2] else ''}{' %p' if clock[3] else ''}"
            )
    return ""


def _in_seconds(table: Table, column: str, unit: TimeUnit) -> Table:
    told = unit if unit != "auto" else _unit_of_dates(table, column)
    if told in ("days", "excel", "yyyymmdd"):
        return _from_days(table, column, told, is_given=unit != "auto")
    looks_like: pl.Expr = pl.lit("s")
    for coarse, finer in pairwise(_UNITS):
        looks_like = pl.when(pl.col(column) >= _TOO_LARGE[coarse]).then(pl.lit(finer)).otherwise(looks_like)
    found = table.rows.each(lambda rows: rows.group_by(looks_like.alias("unit")).len())
    counts = dict(found.group_by("unit").agg(pl.col("len").sum()).iter_rows())
    is_given = unit in _PER_SECOND
    rule = unit if is_given else max(_UNITS, key=lambda name: (counts.get(name, 0), -_UNITS.index(name)))
    # Where the unit is given as milliseconds, small numbers are early times; where it is not, they are another unit.
    for other in (name for name in _UNITS if name in counts):
        if _UNITS.index(other) > _UNITS.index(rule) if is_given else other != rule:
            rest = f"{setting('time_unit', rule)}" if is_given else f"the other rows are {_NAMES[rule]}"
            way_out = f"Use {setting('time_unit', other)} or mend the row." if is_given else "Mend or remove the row."
            problem = f"{column} {{value}} looks like {_NAMES[other]}; {rest}. {way_out}"
            table = table.without(looks_like == other, problem, show=column)
    per_second = _PER_SECOND[rule]
    if rule == "s":
        highest = table.rows.each(lambda rows: rows.select(pl.col(column).max())).to_series().max()
        if isinstance(highest, int) and _DAYS[0] / 2 < highest < _SMALL and unit == "auto":
            last = datetime.fromtimestamp(highest, tz=UTC).date()
            days = setting("time_unit", "days")
            way_out = f"; if they are something else, say so: {days}" if takes("time_unit") else ""
            note(f"{table.file}: as seconds, no {column} is after {last}{way_out}")
        return table
    fine = (pl.col(column) % per_second) * (_NANO // per_second) + pl.col(FINE) // per_second
    return table.map(lambda rows: rows.with_columns(pl.col(column) // per_second, fine.alias(FINE)))


def _unit_of_dates(table: Table, column: str) -> str:
    """Tell whether whole numbers are days or dates written without dashes; else an empty text."""

    def count(fulfilled: pl.Expr) -> int:
        return int(table.rows.each(lambda rows: rows.select(fulfilled.sum())).to_series().sum())

    number, height = pl.col(column), table.rows.height
    # A few rows may be something else; they are then at fault.
    near = count(number.is_between(19_700_101, 21_001_231)) > 0.9 * height
    if near and count(_calendar(number).is_not_null()) > 0.9 * height:
        return "yyyymmdd"
    if not height:
        return ""
    if not count(~number.is_between(*_EXCEL)):
        return "excel"
    return "" if count(~number.is_between(*_DAYS)) else "days"


def _from_days(table: Table, column: str, unit: str, *, is_given: bool) -> Table:
    number, within = pl.col(column), pl.col(FINE) * _DAY  # billionths of the day
    first = _EXCEL_1970 if unit == "excel" else 0
    seconds = _calendar(number) if unit == "yyyymmdd" else (number - first) * _DAY + within // _NANO
    marked = table.map(lambda rows: rows.with_columns(seconds.alias("_seconds"), (within % _NANO).alias(FINE)))
    rest = setting("time_unit", unit) if is_given else f"the other rows are {_NAMES[unit]}"
    problem = f"{column} {{value}} is no such date; {rest}. Mend or remove the row."
    marked = marked.without(pl.col("_seconds").is_null(), problem, show=column)
    if not is_given:
        note(f"{table.file}: {column} was read as {_NAMES[unit]}; otherwise say {setting('time_unit', 's')}")
    return marked.map(lambda rows: rows.with_columns(pl.col("_seconds").alias(column)).drop("_seconds"))


def _calendar(number: pl.Expr) -> pl.Expr:
    days = number.cast(pl.String).str.strptime(pl.Date, "%Y%m%d", strict=False)
    return days.cast(pl.Int64) * _DAY


def _numbers(raw: pl.Series) -> pl.DataFrame:
    """Split numbers into whole ones and billionths of their unit; null where there is none."""
    if raw.dtype.is_integer():
        return _whole(raw.cast(pl.Int64, strict=False))
    if raw.dtype != pl.String:
        return _rounded(raw.cast(pl.Float64, strict=False))
    text = raw.str.strip_chars()
    whole = text.cast(pl.Int64, strict=False)
    if whole.null_count() == raw.null_count():
        return _whole(whole)
    # 881250949.0, as some tools write whole numbers
    rest = _rounded(text.cast(pl.Float64, strict=False))
    return rest.select(whole=whole.fill_null(rest["whole"]), fine=rest["fine"].fill_null(0))


def _whole(numbers: pl.Series) -> pl.DataFrame:
    return pl.DataFrame({"whole": numbers, "fine": pl.zeros(len(numbers), pl.Int64, eager=True)})


def _rounded(numbers: pl.Series) -> pl.DataFrame:
    numbers = pl.select(pl.when(numbers.is_finite()).then(numbers)).to_series()
    whole = numbers.floor()
    return pl.DataFrame(
        {"whole": whole.cast(pl.Int64, strict=False), "fine": ((numbers - whole) * _NANO).cast(pl.Int64, strict=False)}
    )


def _dated(texts: pl.Series, form: "re.Pattern[str]", order: tuple[int, int, int]) -> pl.Series:
    """Read dates of one form as microseconds, null elsewhere; `order` says where year, month and day stand."""
    part = texts.str.extract_groups(form.pattern).struct.unnest()
    if part.to_series(0).null_count() == len(texts):
        return pl.Series(texts.name, [None] * len(texts), dtype=pl.Int64)
    names = part.columns
    year, month, day = (pl.col(names[place]).str.zfill(2) for place in order)
    minutes, seconds, offset = (pl.col(name) for name in names[3:])
    zone = pl.when(offset.is_in(["Z", "UTC", "GMT"])).then(None).when(offset.str.len_chars() == 3).then(offset + "00")
    full = pl.concat_str(
        pl.concat_str(year, month, day, separator="-"),
        pl.lit(" "),
        minutes.fill_null("00:00").str.zfill(5),
        seconds.fill_null(":00").str.replace(",", "."),
        zone.otherwise(offset).fill_null("+00:00"),
    )
    return part.select(
        full.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%z", time_unit="us", strict=False).dt.epoch("us")
    ).to_series()


def _parts(micros: pl.Series) -> pl.DataFrame:
    return pl.DataFrame({"whole": micros // 1_000_000, "fine": micros % 1_000_000 * 1000})


def date_range(times: Int64[np.ndarray, "T"]) -> dict[str, str] | None:
    """Return the first and last of some times (seconds since 1970) in ISO 8601, UTC; None if there are none."""
    if not len(times):
        return None
    return {"first": _iso(int(times.min())), "last": _iso(int(times.max()))}


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat()
