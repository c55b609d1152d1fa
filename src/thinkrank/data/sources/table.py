"""Any pair of tables: who did what when, and what the items are called."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import polars as pl
from pydantic import Field, field_validator

from thinkrank.data._nearest import did_you_mean
from thinkrank.data.catalogue import TEXT_COLUMNS
from thinkrank.data.dataset import Dataset
from thinkrank.data.reading import ROW, DataFile, Files, Table, read_records
from thinkrank.data.reading.intake import all_settings, attempt
from thinkrank.data.sources._assemble_events import assemble
from thinkrank.data.sources._items import ITEM_ROLES, items_table
from thinkrank.data.sources._roles import locate, name_columns, refuse_shared, suggested
from thinkrank.data.timestamps import TimeUnit
from thinkrank.data.validation import Untitled, read_events
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options

NAME = "table"
_EVENT_ROLES = {"user": True, "item": True, "timestamp": True, "rating": False, "event": False}
_WANTED = {"interactions": ("user", "item", "timestamp"), "items": ("item", "title")}

Named = str | Path | tuple[str, ...]
"""A file, a pattern of files, or several of either."""


class TableOptions(Options):
    """Options of the source ``table``."""

    interactions: Named | None = Field(
        None,
        union_mode="left_to_right",
        description="file with the interactions, by its path in the folder; a pattern or a list of files are read as "
        "one table; without it `interactions.*`",
    )
    items: Named | None = Field(
        None,
        union_mode="left_to_right",
        description="file with the items, or a pattern or list of files; without it `items.*`",
    )
    name: str | None = Field(
        None, min_length=1, description="what the data set is called in tables and reports; without it as its folder"
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="what the files call the user, item, timestamp, rating, event, title, categories, description, "
        "price, brand and year, where they call it otherwise; usual names such as customer_id are recognised",
    )
    time_unit: TimeUnit = Field(
        "auto", description="unit of the times: s, ms, us, ns, days, yyyymmdd, or iso for dates; auto finds out"
    )
    time_format: str | None = Field(
        None, description="how dates are written where they are not ISO, such as %d/%m/%Y %H:%M"
    )
    order_only: bool = Field(
        False, description="there are no times; each user's interactions stand in the order in which they happened"
    )
    separator: str | None = Field(
        None, min_length=1, max_length=1, description="character between the fields of CSV files; without it found out"
    )
    encoding: str | None = Field(
        None, description="encoding of text files, by Python's names; without it UTF-8, else Windows-1252"
    )
    untitled: Untitled = Field("drop", description="what becomes of items without a title: dropped, or go by their id")

    @field_validator("columns")
    @classmethod
    def _roles_exist(cls, columns: dict[str, str]) -> dict[str, str]:
        roles = [*dict.fromkeys((*_EVENT_ROLES, *TEXT_COLUMNS))]
        for role in columns:
            if role not in roles:
                raise ValueError(f"there is no {role!r}{did_you_mean(role, roles)}; there are {', '.join(roles)}")
        return columns


@dataclass(frozen=True)
class Records:
    """Hold one table that is still to be read: its name for messages, and its blocks of rows."""

    name: str
    blocks: Iterable[pl.DataFrame]


def load_table(path: Path | None, options: TableOptions) -> Dataset:
    """Load interactions and items from CSV, TSV, Parquet or JSON lines, each also gzipped.

    Further columns of the items stay in the catalogue under their names. Categories in text are separated by ``|``, or
    by ``;`` where no text has a bar, or are a JSON or Python list.

    Args:
        path: a folder or zip that holds the files; None if the options name both.
        options: names, columns and formats.
    """
    files = None if path is None else Files.at(path)
    found = _found(files, options)
    name = options.name or _name_of(path, found)
    return assemble_records(
        name,
        [_records(it, options) for it in found["interactions"]],
        [_records(it, options) for it in found["items"]],
        options,
    )


def assemble_records(name: str, interactions: list[Records], items: list[Records], options: TableOptions) -> Dataset:
    """Read what files or frames hold and put it together.

    Args:
        name: of the data set.
        interactions: read as one table.
        items: likewise; without any, items go by their ids.
        options: names of columns, and how to read them.
    """
    events: Table | None = None
    catalogue: Table | None = None
    with attempt():
        events = Table.joined((_read_events(records, options) for records in interactions), to_disk=True)
    with attempt():
        tables = (Table.gather(records.name, records.blocks) for records in items)
        told = {role: column for role, column in options.columns.items() if role in ITEM_ROLES}
        needs_title = options.untitled == "drop"
        catalogue = items_table(Table.joined(tables), told, needs_title=needs_title) if items else None
    if events is None:
        raise ThinkrankError("the interactions cannot be read")  # what is wrong with them was said
    if catalogue is None:
        ids = events.rows.each(lambda rows: rows.group_by("item").agg(pl.col(ROW).min()))
        ids = ids.group_by("item").agg(pl.col(ROW).min())
        catalogue = events.with_frame(ids.with_columns(title=pl.col("item")).sort(ROW))
    recorded = options.model_dump(mode="json", exclude_defaults=True)
    return assemble(name, events, catalogue, source=NAME, options=recorded, untitled=options.untitled)


def _found(files: Files | None, options: TableOptions) -> dict[str, list[DataFile]]:
    """Find the files of both tables, or say how to name them."""
    told = {"interactions": _names(options.interactions), "items": _names(options.items)}
    found = {role: locate(files, role, names) for role, names in told.items()}
    missing = [
        role for role, there in found.items() if not there and not (role == "items" and options.untitled == "id")
    ]
    if not missing or files is None:
        return found
    fitting = suggested(files, _WANTED, missing)
    names = {role: str(fitting[role].inside) if role in fitting else "..." for role in missing}
    there = ", ".join(str(file.inside) for file in files.members[:8]) or "nothing"
    with attempt():
        raise ThinkrankError(
            f"{files.where}: holds no {' and no '.join(f'{role}.*' for role in missing)}; it has: {there}. "
            f"Name yours: {all_settings(names)}."
        )
    return found | {role: [file] for role, file in fitting.items()}


def _names(told: Named | None) -> tuple[str, ...]:
    if told is None:
        return ()
    return told if isinstance(told, tuple) else (str(told),)


def _name_of(path: Path | None, found: dict[str, list[DataFile]]) -> str:
    if path is not None:
        return path.resolve().name.removesuffix(".zip") or NAME
    return found["interactions"][0].name.split(".")[0]


def _records(file: DataFile, options: TableOptions) -> Records:
    return Records(file.name, read_records(file, separator=options.separator, encoding=options.encoding))


def _read_events(records: Records, options: TableOptions) -> Table:
    blocks = iter(records.blocks)
    first = next(blocks, pl.DataFrame())
    roles = {role: it for role, it in _EVENT_ROLES.items() if role != "timestamp" or not options.order_only}
    told = {role: column for role, column in options.columns.items() if role in roles}
    columns = name_columns(records.name, first.columns, roles, told)
    refuse_shared(records.name, columns)
    return read_events(records.name, chain([first], blocks), columns, options.time_unit, options.time_format)
