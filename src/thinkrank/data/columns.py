"""Columns that several sources write in their own ways; what is there and cannot be read is counted in a notice."""

from collections.abc import Callable
from typing import Any

import polars as pl

from thinkrank.data.reading import Table
from thinkrank.data.reading.intake import current, note
from thinkrank.data.reading.jsonlines import json_texts
from thinkrank.errors import ThinkrankError

_SIGNS = r"[$€£¥₹]|eur|euros?|usd|gbp|chf|sek|nok|dkk|pln|kr\.?|zł"
_CURRENCY = rf"(?i)^\s*(?:{_SIGNS})?\s*|\s*(?:{_SIGNS}|,-|,–)?\s*$"
_BLANKS = r"[\s'’]"
_PLAIN = r"^-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?$|^-?\.\d+$"
_POINT = r"^-?\d{1,3}(?:,\d{3})+(?:\.\d*)?$"
_COMMA = r"^-?\d{1,3}(?:\.\d{3})+,\d*$|^-?\d{1,3}(?:\.\d{3}){2,}$"
_DECIMAL_COMMA = r"^-?\d+,\d*$"
_AMBIGUOUS_COMMA, _AMBIGUOUS_POINT = r"^-?\d{1,3},\d{3}$", r"^-?\d{1,3}\.\d{3}$"
_PYTHON_LIST = r"""^\s*[\[(]\s*(?:(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s*,?\s*)*[\])]\s*$"""
_PYTHON_TEXT = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_LOOSE = ("|", ";")


def read_as(table: Table, column: str, reader: Callable[[pl.Series], pl.Series], what: str) -> Table:
    """Read a column another way; values that are there and come out as nothing are counted in a notice.

    Args:
        table: the rows.
        column: its name.
        reader: turns the column into what is wanted, null where it cannot.
        what: its values should be, for the notice.
    """
    raw, read = table.frame[column], reader(table.frame[column]).alias(column)
    there = raw.is_not_null()
    if raw.dtype == pl.String:
        there &= raw.str.strip_chars() != ""
    lost = there & read.is_null()
    if lost.any():
        values = raw.filter(lost)
        marked = table.with_frame(table.frame.with_columns(lost.alias("_lost")))
        shown = ", ".join(repr(str(value)[:40]) for value in values.unique(maintain_order=True).head(3))
        tell(marked, pl.col("_lost"), f"values of {column} are not {what} and count as unknown, such as {shown}")
    return table.with_frame(table.frame.with_columns(read))


def tell(table: Table, where: pl.Expr, what: str) -> None:
    """Add a notice about the rows that fulfil a condition, with their number and the first."""
    if current() is not None:
        for notice in table.count(where, what):
            note(notice)


def refuse_type(table: Table, column: str, *, lists: bool = False) -> None:
    """Refuse a column whose type holds no plain values, or no lists of them.

    Raises:
        ThinkrankError: naming column and type.
    """
    dtype: pl.DataType | None = table.frame.schema[column]
    if lists:
        while isinstance(dtype, pl.List | pl.Array):
            dtype = dtype.inner if isinstance(dtype.inner, pl.DataType) else dtype.inner()
    if dtype is not None and (dtype.is_nested() or dtype in (pl.Binary, pl.Object, pl.Duration, pl.Time)):
        wanted = "texts or lists of them" if lists else "one plain value in each row"
        raise ThinkrankError(f"{table.file}: {column} is {table.frame.schema[column]}. Give {wanted}.")


def id_lists(table: Table, column: str) -> Table:
    """Turn a column of lists of ids into lists of texts.

    Raises:
        ThinkrankError: if it holds something else.
    """
    dtype = table.frame.schema[column]
    inner: Any = getattr(dtype, "inner", None)
    if not isinstance(dtype, pl.List | pl.Array) or not (inner.is_integer() or inner in (pl.String, pl.Null)):
        raise ThinkrankError(f"{table.file}: {column} is {dtype}. Give lists of ids, as text or whole numbers.")
    lists = pl.col(column).arr.to_list() if isinstance(dtype, pl.Array) else pl.col(column)
    return table.with_frame(table.frame.with_columns(lists.cast(pl.List(pl.String))))


def number(values: pl.Series) -> pl.Series:
    """Read numbers; ``4,5`` is one, and so are ``1.299,00`` and ``1,299.00``; other text is null.

    A comma or point before exactly three digits may be either mark; it is what the other values of the column say,
    and where they say nothing a comma groups and a point is decimal.
    """
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.dtype.is_nested() or values.dtype.is_temporal():
        return _nothing(values)
    if values.dtype != pl.String:
        return values.cast(pl.Float64, strict=False).fill_nan(None)
    text = pl.col("text")
    frame = pl.DataFrame({"text": values.str.replace_all(_BLANKS, "").replace("", None)})
    has_comma = text.str.contains(_DECIMAL_COMMA) & ~text.str.contains(_AMBIGUOUS_COMMA)
    has_point = text.str.contains(_PLAIN) & text.str.contains(r"\.") & ~text.str.contains(_AMBIGUOUS_POINT)
    votes = frame.select(
        comma=(has_comma | text.str.contains(_COMMA)).sum(),
        point=(has_point | (text.str.contains(_POINT) & text.str.contains(r"\."))).sum(),
    ).row(0)
    is_comma_decimal = votes[0] > votes[1]
    from_comma = text.str.replace_all(r"\.", "").str.replace(",", ".")
    from_point = text.str.replace_all(",", "")
    read = (
        pl.when(text.str.contains(_AMBIGUOUS_POINT) & is_comma_decimal)
        .then(from_comma)
        .when(text.str.contains(_PLAIN))
        .then(text)
        .when(text.str.contains(_AMBIGUOUS_COMMA) & is_comma_decimal)
        .then(from_comma)
        .when(text.str.contains(_POINT))
        .then(from_point)
        .when(text.str.contains(_COMMA) | text.str.contains(_DECIMAL_COMMA))
        .then(from_comma)
    )
    found = frame.select(read.cast(pl.Float64, strict=False)).to_series().alias(values.name)
    return pl.select(pl.when(found.is_finite()).then(found)).to_series().alias(values.name)


def price(values: pl.Series) -> pl.Series:
    """Read prices as numbers; ``$1,299.00`` and ``17,11 €`` are some, ``from 14.99`` and other sentences are null."""
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.dtype == pl.String:
        values = values.str.replace_all(_CURRENCY, "")
    found = _nothing(values) if values.dtype == pl.Boolean else number(values)
    return pl.select(pl.when(found >= 0).then(found)).to_series().alias(values.name)


def year(values: pl.Series) -> pl.Series:
    """Read years: four digits, or the year of a date."""
    if values.dtype in (pl.Date, pl.Datetime):
        return values.dt.year()
    text = values.cast(pl.String).str.strip_chars() if not values.dtype.is_nested() else _nothing(values)
    if text.dtype != pl.String:
        return text.cast(pl.Int32)
    whole = text.str.extract(r"^(\d{4})(?:\.0+)?$")
    dated = text.str.extract(r"^(\d{4})[-/]\d{1,2}(?:[-/]\d{1,2}.*)?$")
    ending = text.str.extract(r"^\d{1,2}[./]\d{1,2}[./](\d{4})\b")
    return whole.fill_null(dated).fill_null(ending).cast(pl.Int32, strict=False)


def text_list(values: pl.Series, separator: str | None = None) -> pl.Series:
    """Make lists of texts from lists, from JSON lists in text, or from texts with a separator."""
    if isinstance(values.dtype, pl.List | pl.Array):
        while isinstance(values.dtype, pl.List | pl.Array) and isinstance(values.dtype.inner, pl.List | pl.Array):
            values = _flat(values)
        lists = values.arr.to_list() if isinstance(values.dtype, pl.Array) else values
        return lists.cast(pl.List(pl.String))
    texts = values.cast(pl.String)
    return json_texts(texts) if separator is None else texts.str.split(separator)


def categories(values: pl.Series) -> pl.Series:
    """Read categories from lists, from texts that a bar or semicolon separates, or that are a JSON or Python list."""
    if isinstance(values.dtype, pl.List | pl.Array):
        return text_list(values)
    values = values.cast(pl.String)
    separator = next((mark for mark in _LOOSE if values.str.contains(mark, literal=True).any()), "|")
    plain = values.str.split(separator)
    is_python = values.str.contains(_PYTHON_LIST).fill_null(value=False)
    if not is_python.any() and not values.str.starts_with("[").any():
        return plain
    text = pl.col("text")
    bare = pl.element().str.slice(1, pl.element().str.len_chars() - 2).str.replace_all(r"\\(.)", "${1}")
    python = text.str.extract_all(_PYTHON_TEXT).list.eval(bare)
    frame = pl.DataFrame({"text": values, "json": json_texts(values), "plain": plain})
    is_json = text.str.contains(r'^\[\s*["\[\]]') & ~text.str.contains(r"[\[,]\s*'")
    chosen = pl.when(is_json).then("json").when(text.str.contains(_PYTHON_LIST)).then(python).otherwise("plain")
    return frame.select(chosen).to_series().alias(values.name)


def paragraph(values: pl.Series) -> pl.Series:
    """Join a text or a list of them into one text, in their order; null stays null."""
    return text_list(values).list.drop_nulls().list.join(" ")


def _flat(values: pl.Series) -> pl.Series:
    """Join the lists inside each list."""
    frame = pl.DataFrame({"list": values}).with_row_index("row")
    inner = frame.explode("list").explode("list").drop_nulls().group_by("row", maintain_order=True).agg("list")
    joined = frame.select("row", pl.col("list").is_null().alias("none")).join(inner, on="row", how="left")
    flat = pl.col("list").fill_null(pl.lit([], dtype=inner.schema["list"]))
    return joined.sort("row").select(pl.when(~pl.col("none")).then(flat)).to_series().alias(values.name)


def _nothing(values: pl.Series) -> pl.Series:
    return pl.Series(values.name, [None] * len(values), dtype=pl.Float64)
