"""Files that say who asks: users of a data set, or histories of people whom nobody has met yet."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from thinkrank.data._nearest import did_you_mean
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.dataset import Dataset
from thinkrank.data.histories import Histories
from thinkrank.data.reading import ROW, DataFile, Table, read_records
from thinkrank.data.requests import Requests
from thinkrank.data.timestamps import Clock
from thinkrank.errors import ThinkrankError

TIMES = ("time", "timestamp")
"""What a column of times may be called."""


def read_rows(path: str | Path, needed: Sequence[str], allowed: Sequence[str] = ()) -> Table:
    """Read the columns of a small table, as text without blanks around it; times become seconds.

    Args:
        path: CSV, TSV, Parquet or JSON lines, by its name; text formats also with ``.gz``.
        needed: columns that it must have; no cell of them may be empty.
        allowed: columns that are read where they are there; no cell of them may be empty either.

    Returns:
        The rows; a column called as one of `TIMES` is called ``time``. A file with a header alone has none.

    Raises:
        ThinkrankError: if the file cannot be read, lacks a column or has an empty cell.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ThinkrankError(f"{path}: there is no such file")
    frames = [frame for frame in read_records(DataFile.at(path)) if frame.height]
    frame = pl.concat(frames, how="diagonal_relaxed") if frames else _header(path)
    for name in needed:
        if name not in frame.columns:
            has = ", ".join(column for column in frame.columns if column != ROW) or "none"
            near = did_you_mean(name, frame.columns)
            raise ThinkrankError(f"{path}: no column {name!r}{near}; it has {has}")
    there = [name for name in (*needed, *allowed) if name in frame.columns]
    texts = (pl.col(name).cast(pl.String).str.strip_chars().replace("", None) for name in there if name not in TIMES)
    table = Table(str(path), frame.select(ROW, *texts, *(name for name in there if name in TIMES)))
    for name in there:
        empty = table.frame.filter(pl.col(name).is_null())
        if len(empty):
            raise ThinkrankError(f"{path}: row {empty[ROW][0]} has an empty cell: give it a {name} or remove the row")
    for name in set(there) & set(TIMES):
        clock = Clock(name)
        table = clock.in_seconds(clock.read(table)) if frames else table
        table = table.with_frame(table.frame.rename({name: "time"}))
    return table


def read_who(path: str | Path, dataset: Callable[[], Dataset], catalogue: Catalogue) -> Requests:
    """Read who asks.

    Args:
        path: a table as `read_rows` reads it. With the column user alone, each row is a user of the data set; with the
            columns user and item, and timestamp where the order of the rows is not that of what happened, it holds the
            histories of new users.
        dataset: loads the data whose users they are, if they are no new ones.
        catalogue: in which the items of new histories are looked up; what it lacks is left out with a notice.

    Raises:
        ThinkrankError: for a file or a user at fault.
    """
    table = read_rows(path, ("user",), ("item", *TIMES))
    if "item" not in table.frame.columns:
        known = dataset()
        users = table.frame["user"].unique(maintain_order=True).to_list()
        return Requests([known.history(user) for user in users], tuple(users))
    return new_histories(table.frame, catalogue)


def new_histories(events: pl.DataFrame, catalogue: Catalogue) -> Requests:
    """Make a request of each user of a table of events.

    Args:
        events: user and item (text) and perhaps time (seconds), oldest first where there are no times.
        catalogue: in which items are looked up.
    """
    users = events["user"].unique(maintain_order=True)
    numbered = events.with_columns(pl.col("user").cast(pl.Enum(users)).to_physical().alias("_user"))
    numbered = numbered.sort("_user", *(["time"] if "time" in events.columns else []), maintain_order=True)
    met = Catalogue(pl.DataFrame({"item": numbered["item"].unique(maintain_order=True)}).with_columns(title="item"))
    rows = numbered["item"].cast(pl.Enum(met.frame["item"])).to_physical().to_numpy().astype(np.int32)
    times_E = numbered["time"].cast(pl.Int64).to_numpy().copy() if "time" in events.columns else None
    ends_L = np.cumsum(np.bincount(numbered["_user"].to_numpy(), minlength=len(users))).astype(np.int64)
    starts_L = np.concatenate([np.zeros(1, np.int64), ends_L[:-1]]) if len(users) else ends_L
    requests = Requests(Histories(rows, times_E, starts_L, ends_L, met), tuple(users.to_list()))
    return requests.within(catalogue)


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
