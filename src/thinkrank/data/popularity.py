"""How often an item was chosen, in numbers and in words for prompts; the choice to be predicted is not counted.

A training event is left out of its own evidence; all others of the train part count, earlier or later. For items taken
at rates of their own (Poisson), the count of a training event's item but for itself is then distributed as that of a
new event's item is: what is learnt from these words holds for choices that were never counted. Counting up to the
event's time would not do: early events would find all items rare. What is held out is not counted at all.
"""

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.splits import Split

COLUMN = "popularity"
WITHOUT_OWN = "popularity_without_own"
"""Columns of the catalogue: in words, by all train events; and by all but one of the item's own."""

LEVELS = (
    (1.0, ("popular", "widely chosen", "a common choice")),
    (0.0, ("fairly popular", "often chosen")),
    (-1.0, ("not often chosen", "less known")),
    (float("-inf"), ("rarely chosen", "little known")),
)
"""Least log of a train count against the catalogue's mean, and ways to say it; prompts take the first."""


def log_popularity(counts_I: Int64[np.ndarray, "I"]) -> Float64[np.ndarray, "I"]:
    """Compute the log of each item's train count against the catalogue's mean, both with one more.

    0 is the mean item.
    """
    smoothed_I = counts_I + 1.0
    return np.log(smoothed_I / smoothed_I.mean()) if len(counts_I) else smoothed_I


class TrainCounts:
    """Count what training may see, and leave a training event out where it must not speak for itself.

    Args:
        split: whose train part is counted.
    """

    def __init__(self, split: Split) -> None:
        self.counts_I = split.train_counts
        self._items_E, self._ranges = split.dataset.items_E, split.train_ranges
        self._offsets = split.dataset.offsets

    def own(self, position: int) -> int | None:
        """Return the item that counts this event as one of its own; None if the event is not counted.

        Args:
            position: of the event in the data set.
        """
        user = int(np.searchsorted(self._offsets, position, side="right")) - 1
        if not 0 <= user < len(self._ranges) or position >= self._ranges[user, 1]:
            return None
        return int(self._items_E[position])

    def without(self, position: int) -> Int64[np.ndarray, "I"]:
        """Count all events but this one."""
        counts_I, own = self.counts_I.copy(), self.own(position)
        if own is not None:
            counts_I[own] -= 1
        return counts_I


def log_popularity_without_own(counts_I: Int64[np.ndarray, "I"]) -> Float64[np.ndarray, "I"]:
    """Compute what `log_popularity` would say of each item with one of its own events, if any, left out."""
    smoothed_I = counts_I + 1.0
    fewer_I = np.minimum(counts_I, 1)
    return np.log((smoothed_I - fewer_I) / ((smoothed_I.sum() - fewer_I) / max(1, len(counts_I))))


def ways_to_say(popularity: float) -> tuple[str, ...]:
    """Return the words for one value of `log_popularity`."""
    return next(ways for least, ways in LEVELS if popularity >= least)


def with_popularity(split: Split) -> Catalogue:
    """Add columns ``popularity`` and ``popularity_without_own`` in words to the catalogue, by what training may see.

    Columns of these names are replaced: who counted them may have looked at what is held out. The second is what a
    prompt shows of an item that a training event took, see above.
    """
    catalogue, counts_I = split.dataset.catalogue, split.train_counts
    columns = {COLUMN: log_popularity(counts_I), WITHOUT_OWN: log_popularity_without_own(counts_I)}
    words = [
        pl.Series(name, [ways_to_say(value)[0] for value in values_I.tolist()], dtype=pl.String)
        for name, values_I in columns.items()
    ]
    return Catalogue(catalogue.frame.with_columns(words))
