"""What counting retrievers learn from: who did what, as a sparse yes/no matrix, and how often two items share a user.

Shape legend: U users, I items, E events, P distinct (user, item) pairs, b items of a block, H items of one history.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.dataset import Dataset
from thinkrank.data.history import History
from thinkrank.data.splits import Split

BLOCK_CELLS = 4_000_000
"""Co-occurrence rows are counted in blocks of about this many numbers or pairs of events: at most about 100 MB at a
time."""


@dataclass(frozen=True, eq=False)
class UserItems:
    """Hold distinct (user, item) pairs by user: user u did `items_P[starts_U[u]:starts_U[u + 1]]`, ascending.

    Attributes:
        starts_U: U + 1 offsets.
        items_P: catalogue rows.
        num_items: size of the catalogue.
    """

    starts_U: Int64[np.ndarray, "U_plus_1"]
    items_P: Int32[np.ndarray, "P"]
    num_items: int

    @classmethod
    def of(cls, histories: Sequence[History], num_items: int) -> "UserItems":
        """Collect histories, one per user. How often or when a user took an item makes no difference."""
        users_E = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
        pairs_P = np.unique(users_E * num_items + all_items(histories))
        starts_U = np.searchsorted(pairs_P, np.arange(len(histories) + 1) * num_items)
        return cls(starts_U.astype(np.int64), (pairs_P % num_items).astype(np.int32), num_items)

    @property
    def counts_I(self) -> Int64[np.ndarray, "I"]:
        """Count the users of each item."""
        return np.bincount(self.items_P, minlength=self.num_items)

    def transposed(self) -> "UserItems":
        """Return the same pairs by item: item i was taken by the users at its place in `items_P`, ascending."""
        sizes_U = np.diff(self.starts_U)
        by_item_P = np.argsort(self.items_P, kind="stable")
        users_P = np.repeat(np.arange(len(sizes_U), dtype=np.int32), sizes_U)[by_item_P]
        return UserItems(np.concatenate([[0], np.cumsum(self.counts_I)]), users_P, len(sizes_U))

    def cooccurrences(self) -> Iterator[tuple[slice, Float32[np.ndarray, "b I"]]]:
        """Yield, block of rows by block, how many users two items share; on the diagonal, how many an item has.

        The work is the sum over users of the square of their number of items; only one block is held at a time.
        """
        sizes_U = np.diff(self.starts_U)
        users_P = np.repeat(np.arange(len(sizes_U)), sizes_U)
        by_item_P = np.argsort(self.items_P, kind="stable")
        starts_I = np.concatenate([[0], np.cumsum(self.counts_I)])
        pairs_I = np.bincount(self.items_P, sizes_U[users_P], self.num_items).astype(np.float64)
        first = 0
        for last in _block_ends(np.maximum(pairs_I, self.num_items)):
            part = by_item_P[starts_I[first] : starts_I[last]]
            users, rows = users_P[part], self.items_P[part] - first
            lengths = sizes_U[users]
            # Positions of every item of every user who took an item of this block, user after user.
            shift = self.starts_U[users] - (np.cumsum(lengths) - lengths)
            positions = np.arange(lengths.sum()) + np.repeat(shift, lengths)
            cells = np.repeat(rows.astype(np.int64), lengths) * self.num_items + self.items_P[positions]
            block = np.bincount(cells, minlength=(last - first) * self.num_items)
            yield slice(first, last), block.reshape(last - first, self.num_items).astype(np.float32)
            first = last


def training_histories(data: Dataset | Split) -> list[History]:
    """Return what there is to learn from: everything in a data set, the training part of a split."""
    if isinstance(data, Split):
        return data.train_histories()
    return [data.events(start, end) for start, end in pairwise(data.offsets.tolist())]


def catalogue_of(data: Dataset | Split) -> Catalogue:
    """Return the items, whether or not anyone took them in training."""
    return (data.dataset if isinstance(data, Split) else data).catalogue


def all_items(histories: Sequence[History]) -> Int64[np.ndarray, "E"]:
    """Return the items of all histories, one after the other."""
    return np.concatenate([np.zeros(0, np.int64), *(history.items for history in histories)])


def newest_distinct(history: History, window: int | None) -> Int32[np.ndarray, "H"]:
    """Return the newest `window` distinct items, newest first; a repeated item stands at its newest place."""
    items = history.items[::-1]
    _, first = np.unique(items, return_index=True)
    return items[np.sort(first)][:window]


def _block_ends(cost_I: Float64[np.ndarray, "I"]) -> Iterator[int]:
    """List the ends of consecutive blocks whose costs stay below `BLOCK_CELLS`, or that hold a single item."""
    spent = 0.0
    for item, cost in enumerate(cost_I):
        if spent and spent + cost > BLOCK_CELLS:
            yield item
            spent = 0.0
        spent += cost
    if spent:
        yield len(cost_I)
