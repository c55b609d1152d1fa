"""Any table with one row per slot: which list, whose, when, which item at which place, and what came of it."""

from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field, field_validator

from thinkrank.data._nearest import did_you_mean
from thinkrank.data.features import histories_before
from thinkrank.data.histories import Histories
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.reading import ROW, TABLE_SUFFIXES, DataFile, Files, Table, read_records
from thinkrank.data.sources._assemble_lists import (
    LIST,
    ListOptions,
    LongLists,
    assemble,
    catalogue_of,
    rows_of,
)
from thinkrank.data.timestamps import TimeUnit, holds_dates, in_seconds, parse_times
from thinkrank.data.validation import parse_ids

NAME = "table"
_ROLES = ("list", "user", "item", "position", "time")


class TableListOptions(ListOptions):
    """Options of the source ``table``."""

    lists: str | None = Field(None, description="the file with the slots; none: `lists.*` or `impressions.*`")
    items: str | None = Field(None, description="the file with the items; none: `items.*`, if there is one")
    columns: dict[str, str] = Field(
        default_factory=dict, description="what the file calls list, user, item, position and time, if otherwise"
    )
    feedback: tuple[str, ...] = Field(("click",), min_length=1, description="columns of feedback, the main one first")
    numeric: tuple[str, ...] = Field((), description="columns of numbers known of a slot when it was shown")
    categorical: tuple[str, ...] = Field((), description="columns of categories of a slot")
    context: tuple[str, ...] = Field((), description="columns of numbers known of the list; equal in all its rows")
    propensity: str | None = Field(
        None,
        description="column of the probability, above 0 and at most 1, with which the system that displayed a list puts "
        "this item at this place for such a request; it gives off-policy estimates",
    )
    time_unit: TimeUnit = Field("auto", description="of the times")
    separator: str | None = Field(None, min_length=1, max_length=1, description="of CSV and TSV")
    encoding: str = Field("utf-8", description="of text files")

    @field_validator("columns")
    @classmethod
    def _roles_exist(cls, columns: dict[str, str]) -> dict[str, str]:
        for role in columns:
            if role not in _ROLES:
                raise ValueError(f"there is no {role!r}{did_you_mean(role, _ROLES)}; there are {', '.join(_ROLES)}")
        return columns


def load_table_lists(path: Path, options: TableListOptions) -> ImpressionDataset:
    """Read slots from CSV, TSV, Parquet or JSON lines, each also gzipped.

    A history is the items on which the user gave the main feedback in earlier seconds. The items file needs the
    columns ``item`` and ``title``; without it items go by their ids. An empty field of feedback is 0, an empty category
    is unknown, and an empty number is refused. A file without the column ``click`` holds lists that are only to be
    answered, unless other feedback is named.
    """
    files = Files.at(path)
    file = files.require(*([options.lists] if options.lists else _table_names("lists", "impressions")))
    table = _read_slots(file, options)
    items_files = [files.require(options.items)] if options.items else files.find(*_table_names("items"))[:1]
    items = _read_items(items_files[0], options) if items_files else None
    long = _long(table, options)
    catalogue = catalogue_of([long.slots["item"]], items)
    histories = _taken_before(long, rows_of(catalogue, long.slots["item"]))
    return assemble(NAME, long, catalogue, histories, options, [file, *items_files])


def _table_names(*stems: str) -> list[str]:
    return [f"{stem}{suffix}{packed}" for stem in stems for suffix in TABLE_SUFFIXES for packed in ("", ".gz")]


def _read_items(file: DataFile, options: TableListOptions) -> pl.DataFrame:
    table = Table.gather(file.name, read_records(file, separator=options.separator, encoding=options.encoding))
    table.require("item", "title")
    return parse_ids(table, "item").frame.drop(ROW)


def _read_slots(file: DataFile, options: TableListOptions) -> Table:
    table = Table.gather(file.name, read_records(file, separator=options.separator, encoding=options.encoding))
    roles = {role: options.columns.get(role, role) for role in _ROLES}
    for role, column in roles.items():
        table.require(column, way_out=f"Name yours with columns={{{role!r}: ...}}.")
    feedback, propensity = _feedback(table, options), (options.propensity,) if options.propensity else ()
    features = (*feedback, *options.numeric, *options.categorical, *options.context, *propensity)
    table.require(*features)
    further = [column for column in features if column not in _ROLES]
    dates = options.time_unit == "iso" or (options.time_unit == "auto" and holds_dates(table.frame[roles["time"]]))
    renamed = table.frame.select(*(pl.col(there).alias(here) for here, there in roles.items()), *further, ROW)
    table = table.with_frame(renamed)
    for column in ("list", "user", "item"):
        table = parse_ids(table, column)
    table = parse_times(table, "time", dates=dates)
    table = table if dates else in_seconds(table, "time", options.time_unit)
    for column in ("position", *feedback, *options.numeric, *options.context, *propensity):
        table = _parse_numbers(table, column, empty_is_zero=column in feedback)
    for column in propensity:
        table.refuse_where(
            ~pl.col(column).is_between(0, 1, closed="right"), f"{column} {{value}} is not above 0 and at most 1.",
            show=column,
        )  # fmt: skip
    for column in feedback:
        table.refuse_where(pl.col(column) < 0, f"{column} {{value}} is negative. Mend the row.", show=column)
    for column in ("user", "time", *options.context):
        differs = pl.col(column) != pl.col(column).first().over("list")
        table.refuse_where(
            differs, f"{column.lstrip('_')} {{value}} is not that of the list's other rows.", show=column
        )
    return table


def _feedback(table: Table, options: TableListOptions) -> tuple[str, ...]:
    """Return the columns of feedback; none where nobody named any and the usual one is not there."""
    named = "feedback" in options.model_fields_set
    return options.feedback if named or set(options.feedback) <= set(table.frame.columns) else ()


def _parse_numbers(table: Table, column: str, *, empty_is_zero: bool) -> Table:
    text = pl.col(column).cast(pl.String).str.strip_chars()
    number = pl.when(text != "").then(text).cast(pl.Float64, strict=False)
    marked = table.with_frame(table.frame.with_columns(number.alias("_number")))
    finite = pl.col("_number").is_finite()
    wrong = ~finite | (pl.col("_number").is_null() & (text.fill_null("") != ""))
    marked.refuse_where(wrong, f"{column} {{value}} is not a number. Mend or remove the row.", show=column)
    if not empty_is_zero:
        marked.refuse_where(pl.col("_number").is_null(), f"{column} is missing. Give it a value or remove the row.")
    return table.with_frame(marked.frame.with_columns(pl.col("_number").fill_null(0).alias(column)).drop("_number"))


def _long(table: Table, options: TableListOptions) -> LongLists:
    frame = table.frame.with_columns(pl.col("list").alias("id")).sort("list", "position", maintain_order=True)
    frame = frame.with_columns(pl.col("list").rle_id().cast(pl.Int64).alias(LIST))
    described = pl.col("id", "user", "time", *options.context).first(), pl.col(ROW).min().alias("order")
    feedback = _feedback(table, options)
    notice = "no column 'click': these lists can be answered, but not learnt from or judged by"
    if options.propensity:
        frame = frame.with_columns(pl.col(options.propensity).alias("propensity"))
    return LongLists(
        lists=frame.group_by(LIST, maintain_order=True).agg(*described),
        slots=frame,
        signals=feedback,
        numeric=options.numeric,
        categorical=options.categorical,
        context=options.context,
        notices=() if feedback else (notice,),
    )


def _taken_before(long: LongLists, rows_R: np.ndarray) -> Histories:
    no_feedback = pl.lit(value=False) if not long.signals else pl.col(long.signals[0]) > 0
    taken_R = long.slots.select(taken=no_feedback & (pl.col(LIST) >= 0))["taken"].to_numpy()
    owner_R = long.slots[LIST].to_numpy()[taken_R]
    users_L = long.lists["user"].cast(pl.Enum(long.lists["user"].unique().sort())).to_physical().to_numpy()
    times_L = long.lists["time"].to_numpy()
    return histories_before(
        users_L[owner_R].astype(np.int64), rows_R[taken_R], times_L[owner_R], users_L.astype(np.int64), times_L
    )
