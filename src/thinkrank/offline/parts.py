"""The parts that a table of users is answered in; no more than file names and row counts is read to cut them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from thinkrank.data.asked import is_by_user
from thinkrank.data.reading import TABLE_SUFFIXES
from thinkrank.errors import ThinkrankError

BLOCK = 1000
"""Users of a part, unless told otherwise."""


@dataclass(frozen=True)
class Part:
    """Name users who are answered together.

    Attributes:
        file: that they stand in.
        number: of that file among all.
        start: the first row, from 0.
        stop: behind the last row; -1 where the whole file is read.
    """

    file: Path
    number: int
    start: int = 0
    stop: int = -1

    @property
    def name(self) -> str:
        """Return the file name of the answers; names sort as the input does."""
        return f"part-{self.number:05d}-{self.start:010d}.parquet"

    @property
    def rows(self) -> slice | None:
        """Return which rows of the file are read; None for all."""
        return None if self.stop < 0 else slice(self.start, self.stop)

    @property
    def users(self) -> int | None:
        """Return how many users these are at most; None if only reading tells."""
        return None if self.stop < 0 else self.stop - self.start


def files_of(path: Path) -> list[Path]:
    """Return the file itself, or the tables of a folder by name.

    Raises:
        ThinkrankError: if there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ThinkrankError(f"{path}: there is no such file or folder")
    endings = tuple(ending for suffix in TABLE_SUFFIXES for ending in (suffix, f"{suffix}.gz"))
    found = sorted(file for file in path.iterdir() if file.name.lower().endswith(endings) and file.name[0] not in "._")
    if not found:
        raise ThinkrankError(f"{path}: holds no table of users; give files that end in {', '.join(TABLE_SUFFIXES)}")
    return found


def parts_of(path: Path, size: int) -> Iterator[Part]:
    """Cut a table of users into parts.

    Parquet with a row for each user is cut by rows. Another table is a part as it is, since the events of one user may
    stand anywhere in it: of many users give several files, each with all events of its users.

    Args:
        path: a file, or a folder of files.
        size: users of a part, where rows can be read alone.

    Raises:
        ThinkrankError: if there is no table.
    """
    for number, file in enumerate(files_of(path)):
        if not is_by_user(file):
            yield Part(file, number)
            continue
        rows = pl.scan_parquet(file).select(pl.len()).collect().item()
        for start in range(0, rows, size):
            yield Part(file, number, start, min(start + size, rows))
