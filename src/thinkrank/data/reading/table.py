"""A table that remembers which file and row each value came from."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import polars as pl

from thinkrank.data._nearest import did_you_mean
from thinkrank.data.reading.intake import Place, current, with_value
from thinkrank.data.reading.parts import WHOLE, Change, Held, Rows
from thinkrank.errors import ThinkrankError

ROW = "__row__"
"""The column that holds a row's number in its file; a name no file uses for a column of its own."""


@dataclass(frozen=True, eq=False)
class Table:
    """Hold the rows of one file, or of several that are read as one.

    Attributes:
        file: its name, for messages.
        frame: its columns, and `ROW`; may be given as rows.
        rows: the same; on the disk, the frame is read when somebody asks for it.
        parts: of several files, the number of rows before each and its name; `ROW` then counts on from file to file.
    """

    file: str
    frame: Held = WHOLE
    parts: tuple[tuple[int, str], ...] = ()
    rows: Rows = field(init=False, repr=False)

    @classmethod
    def gather(cls, file: str, blocks: Iterable[pl.DataFrame], *, to_disk: bool = False) -> "Table":
        """Concatenate what a reader yields.

        Args:
            file: its name, for messages.
            blocks: of rows.
            to_disk: whether many rows go to the disk; what is asked of them later is then asked row by row.

        Raises:
            ThinkrankError: if there are no rows.
        """
        rows = Rows.gathered(blocks, to_disk=to_disk)
        if not rows.height:
            raise ThinkrankError(f"{file}: has no rows")
        return cls(file, rows)

    @classmethod
    def joined(cls, tables: "Iterable[Table]", *, to_disk: bool = False) -> "Table":
        """Read several files as one; a column that some lack is missing there.

        Args:
            tables: one after the other.
            to_disk: see `gather`.
        """
        first, *second = islice(tables := iter(tables), 2)
        if not second:
            return first
        parts: list[tuple[int, str]] = []

        def counted() -> Iterator[pl.DataFrame]:
            before = 0
            for table in chain((first, *second), tables):
                parts.append((before, table.file))
                last = 0
                for frame in table.rows:
                    yield frame.with_columns((pl.col(ROW) + before).cast(pl.UInt32))
                    last = max(last, int(frame.select(pl.col(ROW).max()).item() or 0))
                before += last

        rows = Rows.gathered(counted(), how="diagonal_relaxed", to_disk=to_disk)
        return cls(f"{first.file} and {len(parts) - 1} more", rows, tuple(parts))

    def with_frame(self, frame: pl.DataFrame | Rows) -> "Table":
        """Return the same file with other contents."""
        return Table(self.file, frame, self.parts)

    def map(self, change: Change) -> "Table":
        """Return the same file with rows that are changed each by itself, see `Rows.map`."""
        return self.with_frame(self.rows.map(change))

    def place(self, row: int) -> Place:
        """Find the file and line of a row."""
        before, file = next((part for part in reversed(self.parts) if part[0] < row), (0, self.file))
        intake = current()
        return intake.place(file, row - before) if intake else Place(file, row - before)

    def without(self, fault: pl.Expr, problem: str, *, show: str | None = None, whole: str | None = None) -> "Table":
        """Report rows that are at fault and return the others.

        Args:
            fault: true where a row is at fault.
            problem: what is wrong and the way out; ``{value}`` stands for the value at fault, if `show` is given.
            show: the column that holds this value.
            whole: a column; rows that share its value with a row at fault go with it, as a list with a slot.

        Raises:
            ThinkrankError: naming file and first row, if no intake is open.
        """
        bad = self.rows.each(lambda rows: rows.filter(fault)).sort(ROW)
        if bad.is_empty():
            return self
        intake = current()
        values = bad[show].to_list() if show else [None] * bad.height
        if intake is None:
            raise ThinkrankError(f"{self.place(bad[ROW][0])}: {with_value(problem, values[0])}")
        by_file: dict[str, list[tuple[int, object]]] = {}
        for row, value in zip(bad[ROW], values, strict=True):
            place = self.place(row)
            by_file.setdefault(place.file, []).append((place.row, value))
        for file, rows in by_file.items():
            intake.report(file, problem, rows)
        for row in bad.iter_rows(named=True) if intake.on_bad == "drop" else ():
            place = self.place(row[ROW])
            intake.drop(place.file, problem, place.row, {key: row[key] for key in row if not key.startswith("_")})
        gone = pl.col(ROW).is_in(bad[ROW].implode()) if whole is None else pl.col(whole).is_in(bad[whole].implode())
        return self.map(lambda rows: rows.filter(~gone))

    def count(self, where: pl.Expr, what: str, *, verb: str = "") -> list[str]:
        """Tell how many rows fulfil a condition and where the first is, in one line; nothing if none does."""
        found = self.rows.each(lambda rows: rows.filter(where).select(pl.len(), pl.col(ROW).min()))
        return self.tell(int(found["len"].sum()), found[ROW].min(), what, verb=verb)

    def tell(self, number: int, first: Any, what: str, *, verb: str = "") -> list[str]:
        """Tell how many rows there are of a kind and where the first is, in one line; nothing if there are none."""
        if not number:
            return []
        place = self.place(first)
        line = "" if place.line in (None, place.row) else f", line {place.line}"
        where_is = f"{place.file}, row" if self.parts else "row"
        return [f"{self.file}: {verb}{number:,} {what} (first: {where_is} {place.row}{line})"]

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
