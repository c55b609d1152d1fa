"""Many histories in one pair of arrays.

Shape legend: L histories, E events, E1 = E + 1.
"""

import operator
from collections.abc import Iterable, Sequence
from typing import SupportsIndex, overload

import numpy as np
from jaxtyping import Int32, Int64

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.history import History


class Histories(Sequence[History]):
    """View histories in shared arrays of events, each made on demand; two of them may share events.

    Args:
        items_E: catalogue rows of all events.
        times_E: seconds since 1970, UTC; None if unknown.
        starts_L: history l is the events `starts_L[l]:ends_L[l]`, oldest first;
        ends_L: equal to the start where a history is empty.
        catalogue: whose rows the items are; None for those of the stage that is asked.
    """

    items_E: Int32[np.ndarray, "E"]
    times_E: Int64[np.ndarray, "E"] | None
    starts_L: Int64[np.ndarray, "L"]
    ends_L: Int64[np.ndarray, "L"]

    def __init__(
        self,
        items_E: Int32[np.ndarray, "E"],
        times_E: Int64[np.ndarray, "E"] | None,
        starts_L: Int64[np.ndarray, "L"],
        ends_L: Int64[np.ndarray, "L"],
        catalogue: Catalogue | None = None,
    ) -> None:
        self.items_E, self.times_E, self.starts_L, self.ends_L = items_E, times_E, starts_L, ends_L
        self.catalogue = catalogue

    @classmethod
    def of(cls, histories: Iterable[History]) -> "Histories":
        """Copy histories into shared arrays; ratings are left out, and times unless every history has them."""
        if isinstance(histories, Histories):
            return histories
        histories = list(histories)
        lengths_L = np.array([len(history) for history in histories], dtype=np.int64)
        items_E = np.concatenate([np.zeros(0, np.int32), *(history.items for history in histories)])
        times = [history.times for history in histories if history.times is not None]
        times_E = np.concatenate([np.zeros(0, np.int64), *times]) if len(times) == len(histories) else None
        ends_L = np.cumsum(lengths_L)
        shared = len({id(history.catalogue) for history in histories}) == 1
        catalogue = histories[0].catalogue if shared else None
        return cls(items_E.astype(np.int32), times_E, ends_L - lengths_L, ends_L, catalogue)

    @property
    def lengths_L(self) -> Int64[np.ndarray, "L"]:
        """Count the events of each history."""
        return self.ends_L - self.starts_L

    def take(self, indices: Int64[np.ndarray, "M"]) -> "Histories":
        """Take some of the histories, in this order, on the same events."""
        return Histories(self.items_E, self.times_E, self.starts_L[indices], self.ends_L[indices], self.catalogue)

    def packed(self) -> "Histories":
        """Copy the same histories to arrays that hold their events one after the other and no others."""
        ends_L = np.cumsum(self.lengths_L)
        shift_L = self.starts_L - (ends_L - self.lengths_L)
        places_E = np.arange(int(self.lengths_L.sum())) + np.repeat(shift_L, self.lengths_L)
        times_E = None if self.times_E is None else self.times_E[places_E]
        return Histories(self.items_E[places_E], times_E, ends_L - self.lengths_L, ends_L, self.catalogue)

    def newest(self, n: int) -> Int32[np.ndarray, "L n"]:
        """Return the n newest items of each history, oldest first; shorter ones are filled up with -1 on the right."""
        lengths_L = np.minimum(self.lengths_L, n)
        places_Ln = (self.ends_L - lengths_L)[:, None] + np.arange(n)
        there_Ln = np.arange(n) < lengths_L[:, None]
        items_Ln = np.full(there_Ln.shape, -1, dtype=np.int32)
        items_Ln[there_Ln] = self.items_E[places_Ln[there_Ln]]
        return items_Ln

    def __len__(self) -> int:
        return len(self.starts_L)

    @overload
    def __getitem__(self, index: SupportsIndex) -> History: ...
    @overload
    def __getitem__(self, index: slice) -> "Histories": ...
    def __getitem__(self, index: SupportsIndex | slice) -> "History | Histories":
        if isinstance(index, slice):
            return Histories(self.items_E, self.times_E, self.starts_L[index], self.ends_L[index], self.catalogue)
        index = operator.index(index)
        events = slice(int(self.starts_L[index]), int(self.ends_L[index]))
        times = None if self.times_E is None else self.times_E[events]
        return History(self.items_E[events], times, catalogue=self.catalogue)
