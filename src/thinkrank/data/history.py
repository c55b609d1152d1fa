"""A user's past, as arrays that view the data set's own memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, Int64

from thinkrank.data.catalogue import Catalogue


@dataclass(frozen=True, eq=False)
class History:
    """Hold what one user did, oldest first. Slicing gives views, never copies.

    A repeated item stays repeated: that is what the user did. An empty history is allowed; every stage states what it
    answers to one.

    Attributes:
        items: catalogue rows.
        times: seconds since 1970, UTC; None if unknown (a history typed by hand).
        ratings: in the data set's own unit; None if the data has none. NaN where a single rating is missing.
        tied: how many events directly before each one happened at its time, so that it must not know of them; None
            where the order is the truth (`ties` is ``before``).
        catalogue: whose rows the items are; None for those of the stage that is asked.
        weights: what each event counts in counting models, by its type; None for 1.
    """

    items: Int32[np.ndarray, "N"]
    times: Int64[np.ndarray, "N"] | None = None
    ratings: Float32[np.ndarray, "N"] | None = None
    tied: Int32[np.ndarray, "N"] | None = None
    catalogue: Catalogue | None = None
    weights: Float32[np.ndarray, "N"] | None = None

    @classmethod
    def of(cls, items: Sequence[int]) -> "History":
        """Build a history from catalogue rows alone, oldest first."""
        return cls(np.asarray(items, dtype=np.int32))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, part: slice) -> "History":
        return History(
            self.items[part],
            None if self.times is None else self.times[part],
            None if self.ratings is None else self.ratings[part],
            None if self.tied is None else self.tied[part],
            self.catalogue,
            None if self.weights is None else self.weights[part],
        )

    @property
    def reads(self) -> Int64[np.ndarray, "N"]:
        """Return after which event each one may be predicted: the newest that is earlier; negative if none is here.

        A reader that sees everything up to a place, and nothing behind it, so predicts a day from the end of the last
        day before.
        """
        return np.arange(len(self), dtype=np.int64) - 1 - (0 if self.tied is None else self.tied)

    def last(self, n: int) -> "History":
        """Return the n newest interactions, as a view."""
        return self[max(0, len(self) - n) :]
