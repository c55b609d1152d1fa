"""Any pair of tables: who did what when, and what the items are called."""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import polars as pl
from pydantic import Field, field_validator

from thinkrank.data._nearest import did_you_mean
from thinkrank.data.catalogue import TEXT_COLUMNS
from thinkrank.data.dataset import Dataset
from thinkrank.data.reading import ROW, TABLE_SUFFIXES, DataFile, Files, Table, read_records
from thinkrank.data.reading.table import require_columns
from thinkrank.data.sources._assemble_events import assemble
from thinkrank.data.sources._columns import paragraph, price, text_list
from thinkrank.data.timestamps import TimeUnit
from thinkrank.data.validation import Untitled, read_events
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options

NAME = "table"
_EVENT_ROLES = ("user", "item", "timestamp", "rating", "event")
_USUAL_NAMES = {"user": ("user", "user_id"), "item": ("item", "item_id"), "timestamp": ("timestamp", "time")}
_OPTIONAL_ROLES = {"rating", "event", "categories", "description", "price", "brand", "year"}


class TableOptions(Options):
    """Options of the source ``table``.

    Attributes:
        interactions: the file with the interactions, in `path` or by itself; None looks for ``interactions.*``.
        items: the file with the items; None looks for ``items.*``.
        columns: what the files call the user, item, timestamp, rating, event, title, categories, description, price,
            brand and year, where they call it otherwise (``user_id``, ``item_id`` and ``time`` are understood).
        time_unit: of the timestamps.
        order_only: there are no timestamps; each user's interactions stand in the order in which they happened.
        separator: between the fields of CSV and TSV; None for a comma or tab.
        encoding: of text files.
        untitled: whether items without a title are dropped, or go by their id.
    """

    interactions: Path | None = None
    items: Path | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    time_unit: TimeUnit = "auto"
    order_only: bool = False
    separator: str | None = Field(default=None, min_length=1, max_length=1)
    encoding: str = "utf-8"
    untitled: Untitled = "drop"

    @field_validator("columns")
    @classmethod
    def _roles_exist(cls, columns: dict[str, str]) -> dict[str, str]:
        roles = [*dict.fromkeys((*_EVENT_ROLES, *TEXT_COLUMNS))]
        for role in columns:
            if role not in roles:
                raise ValueError(f"there is no {role!r}{did_you_mean(role, roles)}; there are {', '.join(roles)}")
        return columns


def load_table(path: Path | None, options: TableOptions) -> Dataset:
    """Load interactions and items from CSV, TSV, Parquet or JSON lines, each also gzipped.

    Further columns of the items stay in the catalogue under their names. Categories in text are separated by ``|``.

    Args:
        path: a folder or zip that holds the files; None if the options name both.
        options: names, columns and formats.
    """
    files = None if path is None else Files.at(path)
    interactions = _locate(files, "interactions", options.interactions)
    blocks = read_records(interactions, separator=options.separator, encoding=options.encoding)
    first = next(blocks)
    roles = [role for role in _EVENT_ROLES if role != "timestamp" or not options.order_only]
    columns = _name_columns(interactions.name, first.columns, roles, options.columns)
    events = read_events(interactions.name, chain([first], blocks), columns, options.time_unit)
    items = _read_items(_locate(files, "items", options.items), options)
    recorded = options.model_dump(mode="json", exclude_defaults=True)
    return assemble(NAME, events, items, source=NAME, options=recorded, untitled=options.untitled)


def _locate(files: Files | None, role: str, told: Path | None) -> DataFile:
    if told is None:
        if files is None:
            raise ThinkrankError(f"{NAME}: where are the {role}? Give {role}=, or a path to a folder.")
        return files.require(*(f"{role}{suffix}{packed}" for suffix in TABLE_SUFFIXES for packed in ("", ".gz")))
    if files is not None and not told.is_absolute():
        return files.require(told.name)
    if not told.is_file():
        raise ThinkrankError(f"{told}: no such file")
    return DataFile.at(told)


def _name_columns(file: str, present: list[str], roles: Iterable[str], told: dict[str, str]) -> dict[str, str]:
    """Find which column of a file plays which role; roles nobody has to play may be left out."""
    columns = {}
    for role in roles:
        usual = next((name for name in _USUAL_NAMES.get(role, (role,)) if name in present), role)
        column = told.get(role, usual)
        if role in told or role not in _OPTIONAL_ROLES:
            require_columns(file, present, column, way_out=f"Name yours with columns={{{role!r}: ...}}.")
        if column in present:
            columns[role] = column
    return columns


def _read_items(file: DataFile, options: TableOptions) -> Table:
    table = Table.gather(file.name, read_records(file, separator=options.separator, encoding=options.encoding))
    present = table.frame.columns
    # The items file often just says "id"; what the interactions call the item need not hold here.
    told = {role: column for role, column in options.columns.items() if role != "item" or column in present}
    if "item" not in told and not {"item", "item_id"} & set(present) and "id" in present:
        told["item"] = "id"
    columns = _name_columns(file.name, present, TEXT_COLUMNS, told)
    further = [column for column in present if column not in {*columns.values(), *columns, ROW}]
    frame = table.frame.select(*(pl.col(there).alias(here) for here, there in columns.items()), *further, ROW)
    return table.with_frame(frame.with_columns(_typed(column) for column in frame.get_columns()))


def _typed(values: pl.Series) -> pl.Series:
    match values.name:
        case "categories":
            return text_list(values, separator=None if _holds_json(values) else "|")
        case "description":
            return paragraph(values)
        case "price":
            return price(values)
        case "year":
            return values.cast(pl.Int32, strict=False)
        case "title" | "brand":
            return values.cast(pl.String)
    return values


def _holds_json(values: pl.Series) -> bool:
    return values.dtype == pl.String and bool(values.drop_nulls().str.starts_with("[").all())
