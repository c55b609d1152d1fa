"""The items that can be recommended, with their texts. A row number is an item's name inside the package."""

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path

import polars as pl

from thinkrank._files import atomic_write
from thinkrank.data._nearest import did_you_mean, nearest
from thinkrank.data.reading import parts
from thinkrank.data.reading.parts import Rows
from thinkrank.data.reading.table import reason
from thinkrank.data.text import clean_lists, clean_text
from thinkrank.data.texts import Texts
from thinkrank.errors import ThinkrankError

TEXT_COLUMNS: dict[str, pl.DataType] = {
    "item": pl.String(),
    "title": pl.String(),
    "categories": pl.List(pl.String()),
    "description": pl.String(),
    "price": pl.Float64(),
    "brand": pl.String(),
    "year": pl.Int32(),
}
"""The columns a catalogue may have under a fixed name, in their order."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Hold items in a fixed order. Everywhere else an item is its row here, from 0.

    Attributes:
        frame: ``item`` (unique) and ``title``, both text without nulls, then those present of ``categories``,
            ``description``, ``price``, ``brand`` and ``year``, then any further columns of plain values.

    Raises:
        ThinkrankError: if a column is missing, has another type, or an item id is null or repeated.
    """

    frame: pl.DataFrame

    def __post_init__(self) -> None:
        frame = self.frame
        for column in ("item", "title"):
            if column not in frame.columns:
                raise ThinkrankError(f"catalogue: no column {column!r}{did_you_mean(column, frame.columns)}")
        known = [column for column in TEXT_COLUMNS if column in frame.columns]
        further = [column for column in frame.columns if column not in TEXT_COLUMNS]
        for column in further:
            if frame.schema[column].is_nested() and frame.schema[column] != pl.List(pl.String):
                raise ThinkrankError(f"catalogue: column {column!r} is {frame.schema[column]}; drop it or make it text")
        try:
            frame = frame.select(*(pl.col(column).cast(TEXT_COLUMNS[column]) for column in known), *further)
        except pl.exceptions.PolarsError as error:
            raise ThinkrankError(f"catalogue: {reason(error)}") from error
        for column in ("item", "title"):
            if frame[column].null_count():
                row = frame[column].is_null().arg_max()
                raise ThinkrankError(f"catalogue, row {row}: {column} is missing. Give it a value or drop the row.")
        if frame["item"].n_unique() < frame.height:
            repeated = frame["item"].filter(frame["item"].is_duplicated())[0]
            raise ThinkrankError(f"catalogue: item id {repeated!r} occurs more than once. Keep one row for each item.")
        object.__setattr__(self, "frame", frame)

    def __len__(self) -> int:
        return self.frame.height

    def extended(self, items: "pl.DataFrame | Catalogue") -> "Catalogue":
        """Return a catalogue with more items behind these; columns that one side lacks are empty there.

        Their texts are cleaned as those of a data set's files are.

        Raises:
            ThinkrankError: if they are no rows of a catalogue, or an id is taken.
        """
        frame = _cleaned(Catalogue(items if isinstance(items, pl.DataFrame) else items.frame).frame)
        try:
            return Catalogue(pl.concat([self.frame, frame], how="diagonal_relaxed"))
        except pl.exceptions.PolarsError as error:
            raise ThinkrankError(f"the items do not fit the catalogue: {error}") from error

    @cached_property
    def ids(self) -> Texts:
        """Return the item ids, by row."""
        return Texts(self.frame["item"])

    @cached_property
    def titles(self) -> list[str]:
        """Return the titles, by row. Two items may share one."""
        return self.frame["title"].to_list()

    def row(self, item_id: str) -> int:
        """Return the row of an item id.

        Raises:
            ThinkrankError: if no item has this id; names the nearest ids.
        """
        item_id = str(item_id)  # a number stands for its text
        row = self.ids.place(item_id)
        if row is None:
            raise ThinkrankError(f"no item has the id {item_id!r}{did_you_mean(item_id, self.ids)}")
        return row

    def find(self, text: str) -> int:
        """Return the row of the item a person means.

        Tried in this order: the exact id; the exact title; the title, or ``Title (1995)``, in any case and spacing; the
        beginning of exactly one title.

        Raises:
            ThinkrankError: if nothing or more than one item fits; names up to five titles that come near.
        """
        text = str(text)
        rows = self._meant(text)
        if len(rows) == 1:
            return rows[0]
        if rows:
            shown = ", ".join(f"{self.ids[row]} ({self._label(row)})" for row in rows[:5])
            more = ", ..." if len(rows) > 5 else ""
            raise ThinkrankError(f"{text!r} fits {len(rows)} items; give one of these ids: {shown}{more}")
        near = [self._rows_by_name[name][0] for name in nearest(_fold(text), list(self._rows_by_name))]
        shown = ", ".join(dict.fromkeys(self._label(row) for row in near))
        raise ThinkrankError(f"no item is called {text!r}" + (f"; nearest: {shown}" if shown else ""))

    def found(self, text: str) -> int | None:
        """Return the row that `find` returns; None, and soon, where nothing or more than one item fits."""
        rows = self._meant(str(text))
        return rows[0] if len(rows) == 1 else None

    def _meant(self, text: str) -> list[int]:
        """Return the rows of the items that a person may mean; see `find`."""
        row_of_id = self.ids.place(text)
        if row_of_id is not None:
            return [row_of_id]
        folded = _fold(text)
        rows = self._rows_by_name.get(folded, [])
        exact = [row for row in rows if self.titles[row] == text.strip()]
        if exact or rows or not folded:
            return exact or rows
        names = self._names[bisect_left(self._names, folded) :]
        begun = takewhile(lambda name: name.startswith(folded), names)
        return sorted({row for name in begun for row in self._rows_by_name[name]})

    def save(self, path: str | Path) -> None:
        """Write the catalogue to one Parquet file, atomically."""
        with atomic_write(Path(path)) as file:
            self.frame.write_parquet(file)

    @classmethod
    def load(cls, path: str | Path) -> "Catalogue":
        """Read what `save` wrote.

        Raises:
            ThinkrankError: if the file is missing or no longer readable.
        """
        return cls(read_own_parquet(Path(path)))

    @cached_property
    def _rows_by_name(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row, title in enumerate(self.titles):
            for name in {_fold(title), _fold(self._label(row))}:
                rows.setdefault(name, []).append(row)
        return rows

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self._rows_by_name)

    @cached_property
    def years(self) -> list[int | None]:
        """Return the year of each item, None where it is unknown."""
        return self.frame["year"].to_list() if "year" in self.frame.columns else [None] * len(self)

    def _label(self, row: int) -> str:
        year = self.years[row]
        return self.titles[row] if year is None else f"{self.titles[row]} ({year})"


@contextmanager
def own_parquet(path: Path) -> Iterator[Rows]:
    """Open a Parquet file this package wrote; one of many rows is read piece by piece, see `Rows`.

    Raises:
        ThinkrankError: if the file is missing or, then or while it is read within, no longer readable.
    """
    try:
        height = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
        is_long = height > parts.ROWS_IN_MEMORY
        yield Rows.of_file(path, height) if is_long else Rows(pl.read_parquet(path.read_bytes()))
    except FileNotFoundError as error:
        raise ThinkrankError(f"{path}: no such file") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ThinkrankError(f"{path}: damaged or not Parquet ({reason(error)}). Save it again.") from error


def read_own_parquet(path: Path) -> pl.DataFrame:
    """Read all of a Parquet file this package wrote; raises as `own_parquet`."""
    with own_parquet(path) as rows:
        return rows.frame


def _cleaned(frame: pl.DataFrame) -> pl.DataFrame:
    """Clean every text but ids; a title of which nothing is left stays as it was."""
    cleaned = []
    for column in frame.iter_columns():
        if column.name != "item" and column.dtype == pl.String:
            text = clean_text(column)
            cleaned.append(text.fill_null(column) if column.name == "title" else text)
        elif column.dtype == pl.List(pl.String):
            cleaned.append(clean_lists(column))
    return frame.with_columns(cleaned)


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())
