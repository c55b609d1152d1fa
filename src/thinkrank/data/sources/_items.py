"""The items of a user's own tables."""

from collections.abc import Iterable, Mapping

import polars as pl

from thinkrank.data.catalogue import TEXT_COLUMNS
from thinkrank.data.columns import categories, paragraph, price, read_as, refuse_type, tell, year
from thinkrank.data.reading import ROW, Table
from thinkrank.data.reading.intake import note
from thinkrank.data.sources._roles import name_columns, refuse_shared
from thinkrank.data.validation import parse_ids

_LIST_OR_RECORD = r'^\s*(?:\[\s*".*"\s*\]|\{\s*".*\})\s*$'
ITEM_ROLES = {role: role in ("item", "title") for role in TEXT_COLUMNS}
"""What columns of items may be, and whether they have to."""


def items_table(table: Table, told: Mapping[str, str], *, needs_title: bool) -> Table:
    """Name the columns of items and read what each of them holds; further ones stay as they are.

    Args:
        table: as a reader gives it.
        told: what the user said the columns are called.
        needs_title: whether there has to be a title; where there is none it is null.

    Raises:
        ThinkrankError: if a column is missing, plays two roles, or is of a type that holds no such values.
    """
    present, told = table.frame.columns, dict(told)
    # The items file often just says "id"; what the interactions call the item need not hold here.
    if told.get("item") not in present:
        told.pop("item", None)
    if "item" not in told and not {"item", "item_id"} & set(present) and "id" in present:
        told["item"] = "id"
    roles = {role: is_needed and (needs_title or role != "title") for role, is_needed in ITEM_ROLES.items()}
    columns = name_columns(table.file, present, roles, told)
    refuse_shared(table.file, columns)
    further = [column for column in present if column not in {*columns.values(), *columns, ROW}]
    frame = table.frame.select(*(pl.col(there).alias(here) for here, there in columns.items()), *further, ROW)
    if "title" not in columns:
        frame = frame.with_columns(title=pl.lit(None, pl.String))
    table = table.with_frame(frame)
    for column in columns:
        table = _typed(table, column)
    return _plain(parse_ids(table, "item"), further)


def _typed(table: Table, column: str) -> Table:
    match column:
        case "categories":
            refuse_type(table, column, lists=True)
            return _read_categories(table)
        case "description":
            refuse_type(table, column, lists=True)
            return read_as(table, column, paragraph, "texts")
        case "price":
            refuse_type(table, column)
            return read_as(table, column, price, "prices")
        case "year":
            refuse_type(table, column)
            return read_as(table, column, year, "years")
        case "title" | "brand":
            refuse_type(table, column)
            table = table.with_frame(table.frame.with_columns(pl.col(column).cast(pl.String)))
            looks = pl.col(column).str.contains(_LIST_OR_RECORD)
            tell(table, looks, f"values of {column} look like lists or records and were taken as texts")
    return table


def _read_categories(table: Table) -> Table:
    """Read categories, and say where they may be meant in another way."""
    raw = table.frame["categories"]
    if raw.dtype == pl.String:
        text = pl.col("categories")
        broken = (
            text.str.contains(r"^\s*[\[{(].*") & (categories(raw).list.len() == 1) & ~text.str.contains(r"[\])]\s*$")
        )
        tell(table, broken, "values of categories begin like a list and were taken as one text each")
        commas = text.str.contains(", ") & (categories(raw).list.len() == 1)
        tell(table, commas, "values of categories hold commas and were taken as one text each; separate them by |")
    return read_as(table, "categories", categories, "texts")


def _plain(table: Table, further: Iterable[str]) -> Table:
    """Leave out further columns that hold no plain values, and say so."""
    for column in further:
        dtype = table.frame.schema[column]
        if isinstance(dtype, pl.Array):
            table = table.with_frame(table.frame.with_columns(pl.col(column).arr.to_list()))
            dtype = table.frame.schema[column]
        if dtype in (pl.Categorical, pl.Enum):
            table = table.with_frame(table.frame.with_columns(pl.col(column).cast(pl.String)))
        elif (dtype.is_nested() and dtype != pl.List(pl.String)) or dtype in (pl.Binary, pl.Object, pl.Duration):
            note(f"{table.file}: left out the column {column}, which is {dtype}")
            table = table.with_frame(table.frame.drop(column))
    return table
