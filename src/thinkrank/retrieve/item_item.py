"""Score by votes: each item of a user's recent past votes for other items through an item–item weight matrix.

Shape legend: B users, I items, H items of one history that vote.

    score_j = sum over h of decay^h * W[item_h, j],  h = 0 the newest

Memory: W is dense, 4 * I^2 bytes (11 MB for MovieLens-100K, 0.6 GB for 12,000 items, 1.6 GB for 20,000).
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import numpy as np
from jaxtyping import Float32, Int32
from pydantic import Field, PositiveInt

from thinkrank.data import Dataset, History, Split
from thinkrank.options import Options
from thinkrank.retrieve.base import Baseline
from thinkrank.retrieve.interactions import UserItems, catalogue_size, training_histories
from thinkrank.stages.checks import check_histories


class ItemItemConfig(Options):
    """Options of every item–item model.

    Attributes:
        window: only the newest `window` distinct items of a history vote; None for all of them.
        decay: each item's vote is `decay` times that of the next newer one; 1 for equal votes.
    """

    window: PositiveInt | None = 20
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0


ConfigT = TypeVar("ConfigT", bound=ItemItemConfig)
ItemItemT = TypeVar("ItemItemT", bound="ItemItem[Any]")


class ItemItem(Baseline[ConfigT]):
    """An item–item model; how the weights come about is the subclass's idea.

    A repeated item votes once, at its newest place. A history in which no item has a vote to give – it is empty, or all
    its items are new – is answered with the popularity order.
    """

    @property
    def weights_II(self) -> Float32[np.ndarray, "I I"]:
        """Row: the item of the past; column: the item it votes for. The diagonal is 0."""
        self._check_fitted()
        return self._arrays["weights_II"]

    @abstractmethod
    def _learn(self, user_items: UserItems) -> Float32[np.ndarray, "I I"]:
        """Weights from who took what."""

    def fit(self: ItemItemT, data: Dataset | Split) -> ItemItemT:
        """Learn the weights, and for histories without a vote each item's number of users."""
        user_items = UserItems.of(training_histories(data), catalogue_size(data))
        self._arrays = {
            "weights_II": self._learn(user_items),
            "counts_I": user_items.counts_I.astype(np.float32),
        }
        return self

    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "B I"]:
        """Sum the votes; popularity where there are none."""
        weights_II = self.weights_II
        check_histories(histories, len(weights_II))
        scores_BI = np.empty((len(histories), len(weights_II)), dtype=np.float32)
        for row, history in zip(scores_BI, histories, strict=True):
            items_H = newest_distinct(history, self.config.window)
            votes_H = np.float32(self.config.decay) ** np.arange(len(items_H), dtype=np.float32)
            row[:] = votes_H @ weights_II[items_H]
            if not row.any():
                row[:] = self._arrays["counts_I"]
        return scores_BI


def newest_distinct(history: History, window: int | None) -> Int32[np.ndarray, "H"]:
    """The newest `window` distinct items, newest first; a repeated item stands at its newest place."""
    items = history.items[::-1]
    _, first = np.unique(items, return_index=True)
    return items[np.sort(first)][:window]
