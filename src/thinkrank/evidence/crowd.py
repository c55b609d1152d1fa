"""What training users did, in counts from which any one of them can be left out exactly.

A training user's own choices must not speak for what he chooses: evidence about him is counted as if he had not been in
the data. A user is known by his number in the data set; one of whom nothing was counted can be left out too.

Shape legend: U users, I items, P distinct (user, item) pairs.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int32, Int64
from safetensors.numpy import load_file

from thinkrank.data.history import History
from thinkrank.data.interactions import UserItems, all_items
from thinkrank.data.splits import Split
from thinkrank.evidence.transitions import TransitionOptions, Transitions
from thinkrank.pretrained import write_arrays

CROWD_FILE = "crowd.safetensors"
_KEPT_COUNTS = 2**26
"""Counts of who chose two items both that are kept at most, in 256 MiB; the items asked for last stay."""


class Crowd:
    """Count what people chose: each item, two items both, one directly after another.

    Args:
        histories: what each user did that may be counted, oldest first.
        num_items: size of the catalogue.
        events_I: how often each item was chosen, where that is more than the histories tell.
    """

    def __init__(
        self, histories: Sequence[History], num_items: int, events_I: Int64[np.ndarray, "I"] | None = None
    ) -> None:
        self.histories, self.num_items = histories, num_items
        self.user_items = UserItems.of(histories, num_items)
        self._by_item = self.user_items.transposed()
        self._events_I = np.bincount(all_items(histories), minlength=num_items) if events_I is None else events_I
        self._together: dict[int, np.ndarray] = {}

    @classmethod
    def of(cls, split: Split) -> "Crowd":
        """Count the train part."""
        ties = split.train.ties
        histories = [split.dataset.events(start, end, ties) for start, end in split.train_ranges.tolist()]
        return cls(histories, len(split.dataset.catalogue))

    def items(self, user: int | None) -> Int32[np.ndarray, "_"]:
        """Return a user's distinct items, ascending; none for nobody."""
        starts_U = self.user_items.starts_U
        return self.user_items.items_P[slice(*starts_U[user : user + 2]) if user is not None else slice(0)]

    def num_people(self, without: int | None = None) -> int:
        """Count the people who chose anything."""
        return int(np.count_nonzero(np.diff(self.user_items.starts_U))) - bool(len(self.items(without)))

    def people(self, without: int | None = None) -> Int64[np.ndarray, "I"]:
        """Count the people who chose each item."""
        people_I = self._people_I.copy()
        people_I[self.items(without)] -= 1
        return people_I

    def events(self, without: int | None = None) -> Int64[np.ndarray, "I"]:
        """Count how often each item was chosen; whoever chose it twice counts twice."""
        own = np.zeros(0, np.int32) if without is None else self.histories[without].items
        return self._events_I - np.bincount(own, minlength=self.num_items)

    def together(self, item: int, without: int | None = None) -> Int64[np.ndarray, "I"]:
        """Count the people who chose an item and each other one; at its own place, who chose it."""
        item, kept = int(item), self._together.pop(int(item), None)
        kept = self._counted_together(item) if kept is None else kept
        self._together[item] = kept  # the newest last
        for old in tuple(self._together)[: -max(1, _KEPT_COUNTS // self.num_items)]:
            self._together.pop(old, None)
        row_I, own = kept.astype(np.int64), self.items(without)
        if item in own:
            row_I[own] -= 1
        return row_I

    def _counted_together(self, item: int) -> Int32[np.ndarray, "I"]:
        takers = self._by_item.items_P[slice(*self._by_item.starts_U[item : item + 2])]
        parts = [self.items(user) for user in takers.tolist()]
        counted = np.bincount(np.concatenate([self.items(None), *parts]), minlength=self.num_items)
        return counted.astype(np.int32)

    def next_after(self, item: int, without: int | None = None) -> Float64[np.ndarray, "I"]:
        """Count the people who chose each item as the next one after an item."""
        return self._next.row(item, without)

    @cached_property
    def _people_I(self) -> Int64[np.ndarray, "I"]:
        return self.user_items.counts_I

    @cached_property
    def _next(self) -> Transitions:
        return Transitions(self.histories, self.num_items, TransitionOptions())

    def save(self, folder: Path) -> None:
        """Write who chose which items into a folder, by number and without names, order, times or repeats."""
        pairs = {"starts_U": self.user_items.starts_U, "items_P": self.user_items.items_P}
        write_arrays(folder / CROWD_FILE, {**pairs, "events_I": self.events()})

    @classmethod
    def load(cls, folder: Path) -> "Crowd":
        """Read what `save` wrote.

        Nothing is known of what came next after what; and of how often one person took an item, so `events` without
        somebody is exact for those alone who took nothing twice.
        """
        arrays = load_file(folder / CROWD_FILE)
        histories = [History(arrays["items_P"][start:end]) for start, end in pairwise(arrays["starts_U"].tolist())]
        return cls(histories, len(arrays["events_I"]), arrays["events_I"])
