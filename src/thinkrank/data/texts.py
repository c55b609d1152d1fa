"""Many texts without a Python object for each: ids of items and users, in Arrow's layout."""

import operator
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, SupportsIndex, overload

import numpy as np
import polars as pl
from jaxtyping import Int32, UInt32

_READ_AT_ONCE = 1 << 16


class Texts(Sequence[str]):
    """Hold texts like a tuple, and find the place of each.

    A lookup compares the text with those of equal CRC-32; beside the texts that takes 8 bytes for each.

    Args:
        series: of strings without nulls.
    """

    def __init__(self, series: pl.Series) -> None:
        self.series = series

    @classmethod
    def of(cls, values: "Sequence[str] | pl.Series") -> "Texts":
        """Take over texts in any form."""
        if isinstance(values, Texts):
            return values
        return cls(values if isinstance(values, pl.Series) else pl.Series(list(values), dtype=pl.String))

    def __len__(self) -> int:
        return len(self.series)

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> str | list[str]:
        if isinstance(index, slice):
            return self.series[index].to_list()
        return str(self.series[operator.index(index)])

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _READ_AT_ONCE):
            yield from self.series.slice(start, _READ_AT_ONCE).to_list()

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and self.place(text) is not None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Texts):
            return self.series.equals(other.series)
        return isinstance(other, list | tuple) and len(other) == len(self) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment] # as lists: two that are equal need not be one

    def __repr__(self) -> str:
        return f"Texts({self[:5]}{', ...' if len(self) > 5 else ''})"

    def get(self, text: Any, otherwise: int) -> int:
        """Return the place of a text, or something else."""
        place = self.place(text)
        return otherwise if place is None else place

    def place(self, text: str) -> int | None:
        """Return the first place of a text; None if it is not here."""
        key = _key(text)
        keys, places = self._lookup
        at = int(np.searchsorted(keys, key))
        while at < len(keys) and keys[at] == key:
            if self.series[int(places[at])] == text:
                return int(places[at])
            at += 1
        return None

    @cached_property
    def _lookup(self) -> "tuple[UInt32[np.ndarray, 'I'], Int32[np.ndarray, 'I']]":
        keys = np.fromiter(map(_key, self), np.uint32, len(self))
        places = np.argsort(keys, kind="stable").astype(np.int32)
        return keys[places], places


def _key(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))
