"""Two facts: a world in which telling the next item takes two look-ups in the history, one after the other.

Shape legend: U users, L items of a history (2 * relay_length), I items of the catalogue, B histories.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import polars as pl
from jaxtyping import Float32, Int32, Int64, Integer

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.dataset import Dataset
from thinkrank.data.history import History
from thinkrank.data.splits import Samples, Split, split_dataset
from thinkrank.data.synthetic.options import RelayOptions
from thinkrank.data.synthetic.words import name_items, numbered
from thinkrank.data.synthetic.world import START
from thinkrank.errors import ThinkrankError

NAME = "synthetic-relay"
_SECONDS_BETWEEN_EVENTS = 60

Items: TypeAlias = Sequence[int] | Integer[np.ndarray, "L"]
"""Catalogue rows, oldest first."""


@dataclass(frozen=True, eq=False)
class RelayWorld:
    """Histories with one right answer, which takes two steps to find.

    A user's history shows, in random order, the items of a cycle (A,x) (A,y) (B,y) (B,z) (C,z) ... (D,x), whose
    neighbours share their style and their kind in turn; the `relay_length` styles A, B, ... and kinds x, y, ... are
    drawn for each user. Each item so has one partner of the same style and one of the same kind. The next item follows
    from the latest one, (s0, k0), alone: its style partner is (s0, k1), whose kind partner is (s2, k1), and the target
    is (s2, k0), which the history does not hold.

    With n = `relay_length`, guessing has these chances: 1 / n(n - 2) among the items not shown that pair a shown style
    with a shown kind, and **1 / (n - 2) among those of them that share the latest item's kind**, which takes no step
    from item to item. The first look-up alone adds nothing to that. Judge by hit@1, and against 1 / (n - 2).

    The events before a user's last come in random order; predicting them is no relay, and `relay_split` leaves them
    out.

    Attributes:
        options: what the world is like.
    """

    options: RelayOptions = field(default_factory=RelayOptions)

    @cached_property
    def catalogue(self) -> Catalogue:
        """Return all pairs of words; they also stand in the columns ``categories``, ``style`` and ``kind``."""
        pairs_I = np.arange(self.options.styles * self.options.kinds, dtype=np.int64)
        return name_items(*np.divmod(pairs_I, self.options.kinds))

    @cached_property
    def histories_UL(self) -> Int32[np.ndarray, "U L"]:
        """Return what each user is shown, the latest item last."""
        random, length = np.random.default_rng(self.options.seed), self.options.relay_length
        histories_UL = np.empty((self.options.users, 2 * length), dtype=np.int32)
        for history_L in histories_UL:
            styles = random.permutation(self.options.styles)[:length]
            kinds = random.permutation(self.options.kinds)[:length]
            cycle_L = np.repeat(styles, 2) * self.options.kinds + np.roll(np.repeat(kinds, 2), -1)
            history_L[:] = random.permutation(cycle_L)
        return histories_UL

    def dataset(self) -> Dataset:
        """Return all histories, each with its target as the last event; one user begins when the one before is done.

        With `shuffled` the target is that of the next user's history: as many items, as often, and nothing to find.
        """
        targets_U = [self.answer(history_L) for history_L in self.histories_UL]
        shown_UL = np.roll(self.histories_UL, 1, axis=0) if self.options.shuffled else self.histories_UL
        items_UE = np.column_stack([shown_UL, targets_U])
        interactions = pl.DataFrame(
            {
                "user": np.repeat(numbered("u", self.options.users), items_UE.shape[1]),
                "item": self.catalogue.frame["item"].to_numpy()[items_UE.ravel()],
                "timestamp": START + _SECONDS_BETWEEN_EVENTS * np.arange(items_UE.size, dtype=np.int64),
            }
        )
        source = {"source": NAME, "files": [], "options": self.options.model_dump()}
        return Dataset(NAME, interactions, self.catalogue, source=source)

    def chain(self, items: Items, start: int) -> tuple[int, int, int]:
        """Find the three items the answer leads through: a start, its style partner, and the kind partner of that.

        Args:
            items: a history's items, in any order.
            start: one of them.

        Raises:
            ThinkrankError: if the start is not among the items, or a step has not exactly one partner to go to.
        """
        styles_L, kinds_L = self._words(items)
        if start not in np.asarray(items):
            raise ThinkrankError(f"a relay cannot start at item {start}: the history does not hold it")
        style, kind = divmod(start, self.options.kinds)
        kind = self._partner("style", kinds_L[styles_L == style], start, kind)
        middle = style * self.options.kinds + kind
        style = self._partner("kind", styles_L[kinds_L == kind], middle, style)
        return start, middle, style * self.options.kinds + kind

    def answer(self, items: Items) -> int:
        """Find the target of a history: the style of its chain's last item with the kind of its latest item.

        Args:
            items: all items of the history, the latest last.

        Raises:
            ThinkrankError: if the history is empty, or as `chain` does.
        """
        if not len(items):
            raise ThinkrankError("an empty history has no answer")
        latest = int(items[-1])
        _, _, last = self.chain(items, latest)
        return last // self.options.kinds * self.options.kinds + latest % self.options.kinds

    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "B I"]:
        """Score like an oracle: 1 for the right answer, 0 for the rest.

        Raises:
            ThinkrankError: as `answer` does; so does every history that is not complete.
        """
        scores_BI = np.zeros((len(histories), len(self.catalogue)), dtype=np.float32)
        for scores_I, history in zip(scores_BI, histories, strict=True):
            scores_I[self.answer(history.items)] = 1
        return scores_BI

    def _words(self, items: Items) -> tuple[Int64[np.ndarray, "L"], Int64[np.ndarray, "L"]]:
        """Split each item into its style and its kind."""
        rows_L = np.asarray(items, dtype=np.int64)
        strangers = rows_L[(rows_L < 0) | (rows_L >= len(self.catalogue))]
        if len(strangers):
            raise ThinkrankError(
                f"the history holds item {strangers[0]}; the catalogue has 0 to {len(self.catalogue) - 1}"
            )
        styles_L, kinds_L = np.divmod(rows_L, self.options.kinds)
        return styles_L, kinds_L

    def _partner(self, shared: str, others: Int64[np.ndarray, "_"], item: int, word: int) -> int:
        """Find the word that an item's only partner does not share with it."""
        partners = others[others != word]
        if len(partners) != 1:
            title = self.catalogue.titles[item]
            raise ThinkrankError(
                f"not a complete relay: {len(partners)} other items of the history share the {shared} of {title!r}"
            )
        return int(partners[0])


def relay_split(dataset: Dataset, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)) -> Split:
    """Divide the users of a relay into train, valid and test, in time order, each user's last event the only sample.

    It is the temporal split without the samples whose history is not complete, so parts share no user. Mind that
    `Split.train_histories` holds every event of the train users: what learns from it event by event, and not from
    `Split.train`, also learns to predict the events before the last.

    Args:
        dataset: what `RelayWorld.dataset` or the source ``synthetic-relay`` gives.
        fractions: of the users, up to rounding.

    Raises:
        ThinkrankError: if the fractions are no partition of 1.
    """
    split = split_dataset(dataset, "temporal", fractions=fractions)
    last = dataset.offsets[1:] - 1

    def complete(part: Samples) -> Samples:
        return Samples(dataset, np.intersect1d(part.positions, last), part.ties)

    return replace(split, train=complete(split.train), valid=complete(split.valid), test=complete(split.test))
