"""Any table with one row per slot: which list, whose, when, which item at which place, and what came of it."""

from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field, field_validator, model_validator

from thinkrank.data._nearest import did_you_mean
from thinkrank.data.features import histories_before
from thinkrank.data.histories import Histories
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.reading import ROW, DataFile, Files, Table, read_records
from thinkrank.data.sources._assemble_lists import (
    LIST,
    ListOptions,
    LongLists,
    assemble,
    catalogue_of,
    rows_of,
)
from thinkrank.data.sources._items import items_table
from thinkrank.data.sources._roles import locate, name_columns, refuse_shared, usual_files
from thinkrank.data.timestamps import FINE, TimeUnit, read_times
from thinkrank.data.validation import check_items, parse_ids, parse_numbers
from thinkrank.errors import ThinkrankError

NAME = "table"
_ROLES = ("list", "user", "item", "position", "time")
Named = str | tuple[str, ...]
"""A file, a pattern of files, or several of either."""


class TableListOptions(ListOptions):
    """Options of the source ``table``."""

    lists: Named | None = Field(
        None,
        union_mode="left_to_right",
        description="file with the slots, by its path in the folder; a pattern or a list of files are read as one "
        "table; without it `lists.*` or `impressions.*`",
    )
    items: Named | None = Field(
        None,
        union_mode="left_to_right",
        description="file with the items, or a pattern or list of files; without it `items.*`, if there is one",
    )
    name: str | None = Field(
        None, min_length=1, description="what the lists are called in tables and reports; without it as their folder"
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="what the file calls list, user, item, position and time, if otherwise"
    )
    feedback: tuple[str, ...] = Field(("click",), min_length=1, description="columns of feedback, the main one first")
    numeric: tuple[str, ...] = Field((), description="columns of numbers known of a slot when it was shown")
    categorical: tuple[str, ...] = Field((), description="columns of categories of a slot")
    context: tuple[str, ...] = Field((), description="columns of numbers known of the list; equal in all its rows")
    propensity: str | None = Field(
        None,
        description="column of the probability, above 0 and at most 1, with which the system that displayed a list "
        "puts this item at this place for such a request; it gives off-policy estimates",
    )
    time_unit: TimeUnit = Field(
        "auto", description="unit of the times: s, ms, us, ns, days, yyyymmdd, or iso for dates; auto finds out"
    )
    time_format: str | None = Field(
        None, description="how dates are written where they are not ISO, such as %d/%m/%Y %H:%M"
    )
    separator: str | None = Field(
        None, min_length=1, max_length=1, description="character between the fields of CSV files; without it found out"
    )
    encoding: str | None = Field(
        None, description="encoding of text files, by Python's names; without it UTF-8, else Windows-1252"
    )

    @field_validator("columns")
    @classmethod
    def _roles_exist(cls, columns: dict[str, str]) -> dict[str, str]:
        for role in columns:
            if role not in _ROLES:
                raise ValueError(f"there is no {role!r}{did_you_mean(role, _ROLES)}; there are {', '.join(_ROLES)}")
        return columns

    @model_validator(mode="after")
    def _one_part_each(self) -> "TableListOptions":
        parts = {"feedback": self.feedback, "numeric": self.numeric, "categorical": self.categorical}
        parts |= {"context": self.context, "propensity": (self.propensity,) if self.propensity else ()}
        taken: dict[str, str] = {}
        for part, columns in parts.items():
            for column in columns:
                if column in taken:
                    raise ValueError(f"the column {column!r} cannot be both {taken[column]} and {part}")
                taken[column] = part
        return self


def load_table_lists(path: Path, options: TableListOptions) -> ImpressionDataset:
    """Read slots from CSV, TSV, Parquet or JSON lines, each also gzipped.

    A history is the items on which the user gave the main feedback in earlier seconds. The items file needs the
    columns ``item`` and ``title``; without it items go by their ids. An empty field of feedback is 0, an empty category
    is unknown, and an empty number is refused. A file without the column ``click`` holds lists that are only to be
    answered, unless other feedback is named.
    """
    files = Files.at(path)
    found = locate(files, "lists", _names(options.lists)) or locate(files, "impressions", ())
    if not found:
        files.require_all(*usual_files("lists", "impressions"))
    table = _read_slots(Table.joined([_gathered(file, options) for file in found]), options)
    item_files = locate(files, "items", _names(options.items))
    items = _read_items(Table.joined([_gathered(it, options) for it in item_files])) if item_files else None
    long = _long(table, options)
    catalogue = catalogue_of([long.slots["item"]], items)
    histories = _taken_before(long, rows_of(catalogue, long.slots["item"]))
    name = options.name or path.resolve().name.removesuffix(".zip") or NAME
    return assemble(name, long, catalogue, histories, options, [*found, *item_files], source=NAME)


def _names(told: Named | None) -> tuple[str, ...]:
    if told is None:
        return ()
    return told if isinstance(told, tuple) else (str(told),)


def _gathered(file: DataFile, options: TableListOptions) -> Table:
    return Table.gather(file.name, read_records(file, separator=options.separator, encoding=options.encoding))


def _read_items(table: Table) -> pl.DataFrame:
    return check_items(items_table(table, {}, needs_title=False), keep_first=False)[0].frame.drop(ROW)


def _read_slots(table: Table, options: TableListOptions) -> Table:
    roles = name_columns(table.file, table.frame.columns, dict.fromkeys(_ROLES, True), options.columns)
    refuse_shared(table.file, roles)
    feedback, propensity = _feedback(table, options), (options.propensity,) if options.propensity else ()
    features = (*feedback, *options.numeric, *options.categorical, *options.context, *propensity)
    table.require(*features)
    further = [column for column in features if column not in _ROLES]
    table = table.with_frame(
        table.frame.select(*(pl.col(there).alias(here) for here, there in roles.items()), *further, ROW)
    )
    for column in ("list", "user", "item"):
        table = parse_ids(table, column)
    table = read_times(table, "time", options.time_unit, options.time_format)
    for column in ("position", *feedback, *options.numeric, *options.context, *propensity):
        table = parse_numbers(table, column, empty_is_zero=column in feedback)
    for column in propensity:
        unlikely = ~pl.col(column).is_between(0, 1, closed="right")
        problem = f"{column} {{value}} is not above 0 and at most 1. Mend or remove the row."
        table = table.without(unlikely, problem, show=column, whole="list")
    for column in feedback:
        problem = f"{column} {{value}} is negative. Mend or remove the row."
        table = table.without(pl.col(column) < 0, problem, show=column, whole="list")
    for column in ("user", "time", *options.context):
        differs = pl.col(column) != pl.col(column).first().over("list")
        problem = f"{column} {{value}} is not that of the list's other rows. Mend or remove them."
        table = table.without(differs, problem, show=column, whole="list")
    if table.frame.is_empty():
        raise ThinkrankError(f"{table.file}: no rows are left")
    return table


def _feedback(table: Table, options: TableListOptions) -> tuple[str, ...]:
    """Return the columns of feedback; none where nobody named any and the usual one is not there."""
    named = "feedback" in options.model_fields_set
    return options.feedback if named or set(options.feedback) <= set(table.frame.columns) else ()


def _long(table: Table, options: TableListOptions) -> LongLists:
    frame = table.frame.with_columns(pl.col("list").alias("id")).sort("list", "position", maintain_order=True)
    frame = frame.with_columns(pl.col("list").rle_id().cast(pl.Int64).alias(LIST))
    described = (
        pl.col("id", "user", "time", *options.context).first(),
        pl.col(FINE).first().alias("fine"),
        pl.col(ROW).min().alias("order"),
    )
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
