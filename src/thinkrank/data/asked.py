"""Files that say who asks: users of a data set, or histories of people whom nobody has met yet."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from thinkrank.data._nearest import did_you_mean
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.columns import refuse_type
from thinkrank.data.dataset import Dataset
from thinkrank.data.histories import Histories
from thinkrank.data.reading import ROW, DataFile, Table, read_records
from thinkrank.data.reading.intake import Intake, note, opened
from thinkrank.data.reading.table import reason
from thinkrank.data.requests import Requests
from thinkrank.data.sources._roles import usual
from thinkrank.data.timestamps import Clock
from thinkrank.errors import ThinkrankError

ITEMS = "items"
"""The column of lists of item ids."""
TIMES = ("time", "timestamp")
"""What a column of times is called."""

logger = logging.getLogger(__name__)


def read_rows(path: str | Path, needed: Sequence[str], allowed: Sequence[str] = ()) -> Table:
    """Read the columns of a small table, as text without blanks around it; times become seconds.

    Args:
        path: CSV, TSV, Parquet or JSON lines, by its name; text formats also with ``.gz``.
        needed: columns that it must have; no cell of them may be empty.
        allowed: columns that are read where they are there; no cell of them may be empty either. Here and above, user,
            item and timestamp may have other names that a data set's tables have for them.

    Returns:
        The rows, with columns as they are asked for; timestamp is called ``time``. A file with a header alone has none.

    Raises:
        ThinkrankError: if the file cannot be read, lacks a column or has an empty cell.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ThinkrankError(f"{path}: there is no such file")
    with opened(Intake(takes=())) as intake:
        table = _read(path, needed, allowed)
    if intake.faults:
        raise ThinkrankError(str(next(iter(intake.faults.values()))))
    for notice in intake.notices:
        logger.warning("%s", notice)
    return table


def _read(path: Path, needed: Sequence[str], allowed: Sequence[str]) -> Table:
    """Read the same, and report to the open intake."""
    frames = [frame for frame in read_records(DataFile.at(path)) if frame.height]
    frame = pl.concat(frames, how="diagonal_relaxed") if frames else _header(path)
    columns = _columns(path, frame.columns, needed, allowed)
    table = Table(str(path), frame.select(ROW, *columns.values()))
    for role, name in columns.items():
        if role != "timestamp":
            refuse_type(table, name)
            text = pl.col(name).cast(pl.String).str.strip_chars().replace("", None)
            table = table.with_frame(table.frame.with_columns(text))
        empty = table.frame.filter(pl.col(name).is_null())
        if len(empty):
            raise ThinkrankError(f"{path}: row {empty[ROW][0]} has an empty cell: fill its {name}, or remove the row")
    if frames and "timestamp" in columns:
        clock = Clock(columns["timestamp"])
        table = clock.in_seconds(clock.read(table))
    names = {name: "time" if role == "timestamp" else role for role, name in columns.items()}
    return table.with_frame(table.frame.rename(names))


def _columns(path: Path, present: Sequence[str], needed: Sequence[str], allowed: Sequence[str]) -> dict[str, str]:
    """Find which column plays which role; users, items and times may be called as in the tables of a data set."""
    columns: dict[str, str] = {}
    for role in (*needed, *allowed):
        own = [name for name in (TIMES if role == "timestamp" else (role,)) if name in present][:1]
        found = own or (usual(role, present) if role in ("user", "item", "timestamp") else [])
        if len(found) > 1:
            names = " and ".join(found)
            raise ThinkrankError(f"{path}: {names} may each be the {role}: call the one that is meant {role}")
        if found:
            columns[role] = found[0]
        elif role in needed:
            has = ", ".join(column for column in present if column != ROW) or "none"
            raise ThinkrankError(f"{path}: no column {role!r}{did_you_mean(role, present)}; it has {has}")
    if "item" not in columns:
        columns.pop("timestamp", None)  # of when people came, not of what they took
    otherwise = [f"{name} as {role}" for role, name in columns.items() if name not in (role, f"{role}_id", *TIMES)]
    if otherwise:
        note(f"{path}: read {', '.join(otherwise)}")
    return columns


def read_who(path: str | Path, dataset: Callable[[], Dataset], rows: slice | None = None) -> Requests:
    """Read who asks.

    Args:
        path: a table as `read_rows` reads it. With the column user alone, each row is a user of the data set; with the
            columns user and item, and timestamp where the order of the rows is not that of what happened, it holds the
            histories of new users; with the columns user and items (a list; Parquet alone) each row is a new user with
            the items that they took, oldest first.
        dataset: loads the data whose users they are, if they are no new ones.
        rows: read these alone, of Parquet with a row for each user; see `is_by_user`.

    Returns:
        Requests whose items are those of the data set, or of the file.

    Raises:
        ThinkrankError: for a file or a user at fault.
    """
    path = Path(path).expanduser()
    by_user = is_by_user(path)
    if by_user and (rows is not None or ITEMS in parquet_columns(path)):
        table = _rows_by_user(path, rows or slice(None))
    else:
        table = read_rows(path, ("user",), ("item", "timestamp"))
    if ITEMS in table.frame.columns:
        return _listed(table.frame)
    if "item" not in table.frame.columns:
        known = dataset()
        users = table.frame["user"].unique(maintain_order=True).to_list()
        return Requests([known.history(user) for user in users], tuple(users))
    return new_histories(table.frame)


def is_by_user(path: Path) -> bool:
    """Tell whether a file is Parquet with one row for each user, so that some of its rows can be read alone."""
    return path.suffix.lower() == ".parquet" and not usual("item", parquet_columns(path))


def parquet_columns(path: Path) -> list[str]:
    """Return the columns of a Parquet file.

    Raises:
        ThinkrankError: if it cannot be read.
    """
    if not path.is_file():
        raise ThinkrankError(f"{path}: there is no such file")
    try:
        return list(pl.read_parquet_schema(path))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ThinkrankError(f"{path}: not readable as Parquet ({reason(error)})") from error


def new_histories(events: pl.DataFrame) -> Requests:
    """Make a request of each user of a table of events: user and item (text) and perhaps time (seconds).

    Without times the order of the rows is that of what happened.
    """
    users = events["user"].unique(maintain_order=True)
    numbered = events.with_columns(pl.col("user").cast(pl.Enum(users)).to_physical().alias("_user"))
    numbered = numbered.sort("_user", *(["time"] if "time" in events.columns else []), maintain_order=True)
    times_E = numbered["time"].cast(pl.Int64).to_numpy().copy() if "time" in events.columns else None
    lengths_L = np.bincount(numbered["_user"].to_numpy(), minlength=len(users))
    return _requests(users, numbered["item"], lengths_L, times_E)


def _listed(people: pl.DataFrame) -> Requests:
    """Make a request of each row: a user, and the items that they took, oldest first."""
    lengths_L = people[ITEMS].list.len().to_numpy()
    items = people.filter(pl.col(ITEMS).list.len() > 0)[ITEMS].explode()
    return _requests(people["user"], items, lengths_L, None)


def _requests(users: pl.Series, items: pl.Series, lengths_L: np.ndarray, times_E: np.ndarray | None) -> Requests:
    met = Catalogue(pl.DataFrame({"item": items.unique(maintain_order=True)}).with_columns(title="item"))
    rows_E = items.cast(pl.Enum(met.frame["item"])).to_physical().to_numpy().astype(np.int32)
    ends_L = np.cumsum(lengths_L).astype(np.int64)
    starts_L = np.concatenate([np.zeros(1, np.int64), ends_L[:-1]]) if len(users) else ends_L
    return Requests(Histories(rows_E, times_E, starts_L, ends_L, met), tuple(users.to_list()))


def _rows_by_user(path: Path, rows: slice) -> Table:
    """Read some rows of Parquet that has one for each user; no cell may be empty."""
    columns, start = parquet_columns(path), rows.start or 0
    called = _columns(path, columns, ("user",), ())["user"]
    schema = pl.read_parquet_schema(path)
    if ITEMS in schema and not isinstance(schema[ITEMS], pl.List | pl.Array):
        raise ThinkrankError(
            f"{path}: the column {ITEMS!r} is {schema[ITEMS]}: give a list of item ids in each row, or call the column "
            "item and give each its own row"
        )
    others = [name for name in columns if isinstance(schema[name], pl.List | pl.Array) and name != ITEMS]
    if others and ITEMS not in schema:
        raise ThinkrankError(
            f"{path}: nothing reads the lists of {others[0]!r}: call the column {ITEMS}, or leave it out"
        )
    listed = [pl.col(ITEMS).cast(pl.List(pl.String))] if ITEMS in schema else []
    user = pl.col(called).cast(pl.String).str.strip_chars().replace("", None).alias("user")
    part = pl.scan_parquet(path).slice(start, None if rows.stop is None else rows.stop - start)
    frame = part.select(user, *listed).collect().with_row_index(ROW, offset=start + 1)
    for name in frame.columns[1:]:
        whole = pl.col(name).is_null()
        empty = frame.filter(
            whole | pl.col(name).list.eval(pl.element().is_null()).list.any() if name == ITEMS else whole
        )
        if len(empty):
            raise ThinkrankError(f"{path}: row {empty[ROW][0]} has an empty cell: fill its {name}, or remove the row")
    return Table(str(path), frame)


def _header(path: Path) -> pl.DataFrame:
    """Return the columns of a file without rows."""
    suffix = path.suffix.lower()
    frame = pl.read_parquet(path) if suffix == ".parquet" else pl.DataFrame()
    if suffix in (".csv", ".tsv"):
        line = path.read_text(encoding="utf-8-sig").split("\n")[0].strip()
        frame = pl.DataFrame(schema=dict.fromkeys(line.split("\t" if suffix == ".tsv" else ","), pl.String))
    elif not frame.columns:
        raise ThinkrankError(f"{path}: has no rows")
    return frame.clear().with_columns(pl.lit(None, pl.UInt32).alias(ROW))
