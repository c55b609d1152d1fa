"""A table that remembers which file and row each value came from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

import polars as pl

from thinkrank.data._nearest import did_you_mean
from thinkrank.errors import ThinkrankError

ROW = "__row__"
"""The column that holds a row's number in its file; a name no file uses for a column of its own."""


@dataclass(frozen=True, eq=False)
class Table:
    """Hold the rows of one file.

    Attributes:
        file: its name, for messages.
        frame: its columns, and `ROW`.
    """

    file: str
    frame: pl.DataFrame

    @classmethod
    def gather(cls, file: str, blocks: Iterable[pl.DataFrame]) -> "Table":
        """Concatenate what a reader yields.

        Raises:
            ThinkrankError: if there are no rows.
        """
        frames = list(blocks)
        if not sum(frame.height for frame in frames):
            raise ThinkrankError(f"{file}: has no rows")
        return cls(file, pl.concat(frames, how="vertical"))

    def with_frame(self, frame: pl.DataFrame) -> "Table":
        """Return the same file with other contents."""
        return Table(self.file, frame)

    def first(self, fault: pl.Expr) -> int | None:
        """Find the number of the first row where the expression holds; None if there is none."""
        rows = self.frame.lazy().filter(fault).select(pl.col(ROW).min()).collect().item()
        return None if rows is None else int(rows)

    def refuse_where(self, fault: pl.Expr, problem: str, *, show: str | None = None) -> None:
        """Raise if the expression holds anywhere.

        Args:
            fault: true where a row is at fault.
            problem: what is wrong and the way out; ``{value}`` stands for the value at fault, if `show` is given.
            show: the column that holds this value.

        Raises:
            ThinkrankError: naming file and first row.
        """
        row = self.first(fault)
        if row is not None:
            self.refuse(row, problem, show=show)

    def refuse(self, row: int, problem: str, *, show: str | None = None) -> NoReturn:
        """Raise a `ThinkrankError` for one row; see `refuse_where`."""
        if show is not None:
            value = self.frame.filter(pl.col(ROW) == row)[show][0]
            # Quoted, a text with line breaks still makes a message of one line.
            problem = problem.replace("{value}", repr(value[:80]) if isinstance(value, str) else str(value))
        raise ThinkrankError(f"{self.file}, row {row}: {problem}")

    def require(self, *columns: str, way_out: str = "") -> None:
        """Raise unless the columns exist; see `require_columns`."""
        require_columns(self.file, self.frame.columns, *columns, way_out=way_out)


def reason(error: Exception) -> str:
    """Return what a library says is wrong, without the advice it gives to programmers."""
    return str(error).strip().partition("\n")[0]


def require_columns(file: str, present: Iterable[str], *columns: str, way_out: str = "") -> None:
    """Refuse a file that lacks a column.

    Args:
        file: its name, for the message.
        present: the columns it has.
        columns: the columns it needs.
        way_out: what to do about it, appended to the message.

    Raises:
        ThinkrankError: names the missing column and the nearest present ones.
    """
    there = [column for column in present if column != ROW]
    for column in columns:
        if column not in there:
            near = did_you_mean(column, there) or f"; it has: {', '.join(there[:12])}"
            raise ThinkrankError(f"{file}: no column {column!r}{near}{'. ' if way_out else ''}{way_out}")
