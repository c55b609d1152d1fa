"""What counting retrievers learn from: who did what, as a sparse yes/no matrix, and how often two items share a user.

Shape legend: U users, I items, E events, P distinct (user, item) pairs, b items of a block, H items of one history.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.dataset import Dataset
from thinkrank.data.history import History
from thinkrank.data.splits import EventRanges, Split

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
        weights_P: what each pair counts, the most that one of its events does; None for 1.
    """

    starts_U: Int64[np.ndarray, "U_plus_1"]
    items_P: Int32[np.ndarray, "P"]
    num_items: int
    weights_P: Float32[np.ndarray, "P"] | None = None

    @classmethod
    def of(cls, histories: Sequence[History], num_items: int, *, weighted: bool = False) -> "UserItems":
        """Collect histories, one per user. How often or when a user took an item makes no difference.

        Args:
            histories: of the users.
            num_items: size of the catalogue.
            weighted: whether the types of events count as the histories say.
        """
        users_E = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
        pairs_P, pair_E = np.unique(users_E * num_items + all_items(histories), return_inverse=True)
        starts_U = np.searchsorted(pairs_P, np.arange(len(histories) + 1) * num_items)
        weights_E, weights_P = event_weights(histories) if weighted else None, None
        if weights_E is not None:
            weights_P = np.zeros(len(pairs_P), np.float32)
            np.maximum.at(weights_P, pair_E, weights_E)
        return cls(starts_U.astype(np.int64), (pairs_P % num_items).astype(np.int32), num_items, weights_P)

    @property
    def counts_I(self) -> Int64[np.ndarray, "I"]:
        """Count the users of each item."""
        return np.bincount(self.items_P, minlength=self.num_items)

    @property
    def totals_I(self) -> Float32[np.ndarray, "I"]:
        """Sum what the users of each item count."""
        return np.bincount(self.items_P, self.weights_P, minlength=self.num_items).astype(np.float32)

    @property
    def squares_I(self) -> Float64[np.ndarray, "I"] | Int64[np.ndarray, "I"]:
        """Return the diagonal of `cooccurrences`."""
        if self.weights_P is None:
            return self.counts_I
        return np.bincount(self.items_P, self.weights_P.astype(np.float64) ** 2, minlength=self.num_items)

    def transposed(self) -> "UserItems":
        """Return the same pairs by item: item i was taken by the users at its place in `items_P`, ascending."""
        sizes_U = np.diff(self.starts_U)
        by_item_P = np.argsort(self.items_P, kind="stable")
        users_P = np.repeat(np.arange(len(sizes_U), dtype=np.int32), sizes_U)[by_item_P]
        weights_P = None if self.weights_P is None else self.weights_P[by_item_P]
        return UserItems(np.concatenate([[0], np.cumsum(self.counts_I)]), users_P, len(sizes_U), weights_P)

    def cooccurrences(self) -> Iterator[tuple[slice, Float32[np.ndarray, "b I"]]]:
        """Yield, block of rows by block, how many users two items share; on the diagonal, how many an item has.

        Where pairs have weights, a user counts the product of both items' weights.

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
            both = None
            if self.weights_P is not None:
                both = np.repeat(self.weights_P[part].astype(np.float64), lengths) * self.weights_P[positions]
            block = np.bincount(cells, both, minlength=(last - first) * self.num_items)
            yield slice(first, last), block.reshape(last - first, self.num_items).astype(np.float32)
            first = last


def training_histories(data: Dataset | Split) -> Sequence[History]:
    """Return what there is to learn from: everything in a data set, the training part of a split."""
    if isinstance(data, Split):
        return data.train_histories()
    return EventRanges(data, np.stack([data.offsets[:-1], data.offsets[1:]], axis=1), data.ties)


def catalogue_of(data: Dataset | Split) -> Catalogue:
    """Return the items, whether or not anyone took them in training."""
    return (data.dataset if isinstance(data, Split) else data).catalogue


def all_items(histories: Sequence[History]) -> Int64[np.ndarray, "E"]:
    """Return the items of all histories, one after the other."""
    return np.concatenate([np.zeros(0, np.int64), *(history.items for history in histories)])


def event_weights(histories: Sequence[History]) -> Float32[np.ndarray, "E"] | None:
    """Return what the events of all histories count, one after the other; None if all count 1."""
    if all(history.weights is None for history in histories):
        return None
    parts = [np.ones(len(one), np.float32) if one.weights is None else one.weights for one in histories]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def newest_distinct(history: History, window: int | None) -> Int32[np.ndarray, "H"]:
    """Return the newest `window` distinct items, newest first; a repeated item stands at its newest place."""
    items = history.items[::-1]
    _, first = np.unique(items, return_index=True)
    return items[np.sort(first)][:window]


def votes(history: History, items_H: Int32[np.ndarray, "H"], decay: float) -> Float32[np.ndarray, "H"]:
    """Return what each of some items counts in an answer: decay^h for the h-th, times its events' most.

    Args:
        history: that holds them.
        items_H: distinct, newest first; see `newest_distinct`.
        decay: of an item's vote against the next newer one's.
    """
    votes_H = np.float32(decay) ** np.arange(len(items_H), dtype=np.float32)
    if history.weights is None or not len(items_H):
        return votes_H
    most = np.zeros(1 + int(history.items.max()), np.float32)
    np.maximum.at(most, history.items, history.weights)
    return votes_H * most[items_H]


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
