"""Long tables in pieces, on the disk where memory would not hold them; what is sorted together stays small."""

import io
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
import polars as pl

from thinkrank.errors import ThinkrankError

ROWS_AT_ONCE = 1 << 20
"""Rows that are sorted or looked at together; shorter tables are left as they are."""

ROWS_IN_MEMORY = 1 << 22
"""Rows of a log that are held in memory; those of a longer one go to the disk."""

How = Literal["vertical", "diagonal_relaxed"]
Change = Callable[[pl.LazyFrame], pl.LazyFrame]


class Rows:
    """Hold the rows of a table in their order: as a frame, or as pieces on the disk, read one after the other.

    Args:
        held: the frame, or the pieces, at least one, all with the same columns.
        place: where the pieces are; a temporary folder goes with the last rows that read from it.
    """

    def __init__(self, held: pl.DataFrame | Sequence[pl.LazyFrame], place: "Folder | Original | None" = None) -> None:
        self._held, self._place = held, place

    @classmethod
    def gathered(cls, blocks: Iterable[pl.DataFrame], *, how: How = "vertical", to_disk: bool = True) -> "Rows":
        """Collect blocks of rows.

        Args:
            blocks: one after the other.
            how: whether all have the same columns, or some may lack one.
            to_disk: whether rows go to the disk as soon as there are more than `ROWS_IN_MEMORY`.
        """
        kept: list[pl.DataFrame] = []
        pieces: list[pl.LazyFrame] = []
        folder, height = None, 0
        for frame in _together(blocks, how):
            height += frame.height
            if folder is None and to_disk and height > ROWS_IN_MEMORY:
                folder = Folder()
                pieces, kept = [folder.keep(earlier) for earlier in kept], []
            if folder is not None:
                pieces.append(folder.keep(frame))
            else:
                kept.append(compact(frame) if frame.height >= ROWS_AT_ONCE else frame)
        if folder is None:
            return cls(pl.concat(kept, how=how) if kept else pl.DataFrame())
        if how == "vertical":
            return cls(pieces, folder)
        empty = pl.concat([piece.collect_schema().to_frame() for piece in pieces], how=how)
        alike = [piece.collect_schema() == empty.schema for piece in pieces]
        joined = (pl.concat([empty.lazy(), piece], how=how) for piece in pieces)
        return cls([piece if same else other for piece, same, other in zip(pieces, alike, joined, strict=True)], folder)

    @classmethod
    def of_file(cls, path: Path, height: int) -> "Rows":
        """View a Parquet file that stays where it is."""
        lazy, place = pl.scan_parquet(path, glob=False), Original(path)
        return cls([lazy.slice(start, ROWS_AT_ONCE) for start in range(0, height, ROWS_AT_ONCE)], place)

    @property
    def is_on_disk(self) -> bool:
        """Tell whether they are read from the disk."""
        return not isinstance(self._held, pl.DataFrame)

    @property
    def pieces(self) -> Sequence[pl.LazyFrame]:
        """Return the pieces, to be read one after the other; one in memory."""
        if isinstance(self._held, pl.DataFrame):
            return [self._held.lazy()]
        if isinstance(self._place, Original):
            self._place.check()
        return self._held

    @cached_property
    def columns(self) -> list[str]:
        """Return the names of the columns."""
        return self._held.columns if isinstance(self._held, pl.DataFrame) else self._held[0].collect_schema().names()

    @cached_property
    def height(self) -> int:
        """Return the number of rows."""
        if isinstance(self._held, pl.DataFrame):
            return self._held.height
        return int(self.each(lambda piece: piece.select(pl.len())).to_series().sum())

    @cached_property
    def frame(self) -> pl.DataFrame:
        """Return all of them as one frame, which is then kept in memory."""
        if isinstance(self._held, pl.DataFrame):
            return self._held
        return pl.concat([compact(piece) for piece in self])

    def __iter__(self) -> Iterator[pl.DataFrame]:
        if isinstance(self._held, pl.DataFrame):
            yield self._held
            return
        for piece in self.pieces:
            yield piece.collect()

    def even(self, size: int) -> Iterator[pl.DataFrame]:
        """Yield them `size` at a time, wherever pieces end; the last may be fewer."""
        rest: pl.DataFrame | None = None
        for piece in self:
            held = piece if rest is None else pl.concat([rest, piece])
            end = held.height // size * size
            yield from held[:end].iter_slices(size)
            rest = held[end:]
        if rest is not None and rest.height:
            yield rest

    def map(self, change: Change) -> "Rows":
        """Change rows, each by itself: now in memory; on the disk, nothing is written, but rows change when read."""
        if isinstance(self._held, pl.DataFrame):
            return Rows(change(self._held.lazy()).collect())
        return Rows([change(piece) for piece in self._held], self._place)

    def select(self, *columns: str) -> "Rows":
        """Leave out the other columns; those of a file are not read."""
        return self.map(lambda piece: piece.select(columns))

    def each(self, change: Change) -> pl.DataFrame:
        """Compute something from each piece and return it under each other: one row for each, or more."""
        return pl.concat([change(piece).collect() for piece in self.pieces])

    def array(self, values: pl.Expr, dtype: Any) -> np.ndarray:
        """Compute a number of each row."""
        found = [piece.select(values).collect().to_series().to_numpy() for piece in self.pieces]
        return np.concatenate(found, dtype=dtype, casting="unsafe")

    def where(self, keep: np.ndarray) -> "Rows":
        """Keep the rows at which an array of truths, one for each row, is true."""

        def kept() -> Iterator[pl.DataFrame]:
            start = 0
            for piece in self:
                yield piece.filter(pl.Series(keep[start : start + piece.height]))
                start += piece.height

        return Rows.gathered(kept()) if self.is_on_disk else Rows(next(kept()))

    def numbered(self, name: str) -> "Rows":
        """Put the number of each row before the other columns, from 0."""
        starts = np.cumsum([0, *self.each(lambda piece: piece.select(pl.len())).to_series()]).tolist()
        numbered = [piece.with_row_index(name, start) for piece, start in zip(self.pieces, starts, strict=False)]
        return Rows(numbered, self._place) if self.is_on_disk else Rows(numbered[0].collect())

    def write(self, file: BinaryIO) -> None:
        """Write them as Parquet."""
        if isinstance(self._held, pl.DataFrame):
            self._held.write_parquet(file)
        else:
            pl.concat(self.pieces).sink_parquet(file)


class Whole:
    """Let a field of a data class take a frame or rows, hold rows as `rows`, and give the frame to those who ask."""

    def __get__(self, owner: Any, kind: Any = None) -> pl.DataFrame:
        if owner is None:
            raise AttributeError("the field has no default")
        frame: pl.DataFrame = owner.rows.frame
        return frame

    def __set__(self, owner: Any, held: pl.DataFrame | Rows) -> None:
        object.__setattr__(owner, "rows", held if isinstance(held, Rows) else Rows(held))


WHOLE = Whole()

if TYPE_CHECKING:
    Held = Whole
else:
    Held = pl.DataFrame | Rows  # what is checked of an argument, where arguments are checked as the program runs


class Folder:
    """Make a temporary folder for pieces; it is removed when nobody reads from it any more."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="thinkrank-"))
        self._count = 0
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def keep(self, frame: pl.DataFrame) -> pl.LazyFrame:
        """Write a piece, and return how it is read.

        Raises:
            ThinkrankError: if the disk is full.
        """
        path = self.path / f"{self._count}.parquet"
        self._count += 1
        try:
            frame.write_parquet(path, compression="lz4", statistics=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise ThinkrankError(
                f"{self.path} can't hold a log of this size ({error}). Set TMPDIR to a folder on a larger disk."
            ) from error
        return pl.scan_parquet(path, glob=False)


class Original:
    """Watch a file that is read when it is needed.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._was = path, self._state(path)

    def check(self) -> None:
        """Refuse to read on from another file.

        Raises:
            ThinkrankError: if it was changed or removed.
        """
        if not self.path.exists() or self._state(self.path) != self._was:
            raise ThinkrankError(f"{self.path}: was changed or removed while it was in use. Load the data set again.")

    @staticmethod
    def _state(path: Path) -> tuple[int, ...]:
        found = path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns


def compact(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the same rows with their texts side by side, and nothing of the tables they were taken from."""
    file = io.BytesIO()
    frame.write_ipc(file, compression="uncompressed")
    return pl.read_ipc(file.getvalue())


def in_parts(rows: Rows, by: str) -> Iterator[pl.DataFrame]:
    """Deal the rows out by ranges of a text column, in ascending order; rows that share a value stay together.

    Each part has about `ROWS_AT_ONCE` rows, in their order, unless one value alone has more. A pass over the table puts
    the rows of a part side by side, in memory or on the disk as the rows are; another reads them.

    Args:
        rows: to deal out.
        by: a column without nulls.
    """
    count = -(-rows.height // ROWS_AT_ONCE)
    if count < 2:
        yield rows.frame
        return
    every = max(1, rows.height // (256 * count))
    sample = rows.each(lambda piece: piece.select(pl.col(by).gather_every(every))).to_series().sort()
    bounds = sample.gather([len(sample) * part // count for part in range(1, count)]).unique().sort()
    folder = Folder() if rows.is_on_disk else None
    dealt: list[list[pl.LazyFrame]] = [[] for _ in range(len(bounds) + 1)]
    for frame in rows.even(ROWS_AT_ONCE):
        part = bounds.search_sorted(frame[by], side="right").alias("__part__")
        run = frame.with_columns(part).sort("__part__", maintain_order=True)
        ends = np.searchsorted(run["__part__"].to_numpy(), np.arange(len(dealt)), side="right").tolist()
        run = run.drop("__part__") if folder else compact(run.drop("__part__"))
        for pieces, (start, end) in zip(dealt, pairwise([0, *ends]), strict=True):
            pieces.append(folder.keep(run[start:end]) if folder else run[start:end].lazy())
    for pieces in dealt:
        yield pl.concat([piece.collect() for piece in pieces])


def _together(blocks: Iterable[pl.DataFrame], how: How) -> Iterator[pl.DataFrame]:
    """Join blocks until there are `ROWS_AT_ONCE`."""
    held: list[pl.DataFrame] = []
    for block in blocks:
        held.append(block)
        if sum(frame.height for frame in held) >= ROWS_AT_ONCE:
            yield pl.concat(held, how=how)
            held = []
    if held:
        yield pl.concat(held, how=how)
