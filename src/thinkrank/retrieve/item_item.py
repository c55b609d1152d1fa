"""Score by votes: each item of a user's recent past votes for other items through an item–item weight matrix.

Shape legend: B users, I items, H items of one history that vote.

    score_j = sum over h of decay^h * W[item_h, j],  h = 0 the newest

Memory: W is dense, 4 * I^2 bytes (11 MB for MovieLens-100K, 0.6 GB for 12,000 items, 1.6 GB for 20,000).
"""

from abc import abstractmethod
from typing import Annotated, Any, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float32
from pydantic import Field, PositiveInt

from thinkrank.data.dataset import Dataset
from thinkrank.data.interactions import UserItems, catalogue_of, newest_distinct, training_histories, votes
from thinkrank.data.splits import Split
from thinkrank.options import Options
from thinkrank.retrieve.base import DenseRetriever

Decay: TypeAlias = Annotated[
    float,
    Field(gt=0, le=1, description="weight of an item's vote against the next newer one's; 1 for equal votes"),
]


class ItemItemConfig(Options):
    """Hold the options of every item–item model."""

    window: PositiveInt | None = Field(
        20, description="how many distinct items of a history vote, the newest; without it all of them"
    )
    decay: Decay = 1.0


ConfigT = TypeVar("ConfigT", bound=ItemItemConfig)
ItemItemT = TypeVar("ItemItemT", bound="ItemItem[Any]")


class ItemItem(DenseRetriever[ConfigT]):
    """Retriever by item–item weights; how they come about is the subclass's idea.

    A repeated item votes once, at its newest place. Where types of events have weights, a user's row holds them in the
    place of ones, in training as in answers. A history in which no item has a vote to give – it is empty, or all
    its items are new – is answered with the popularity order.
    """

    @property
    def weights_II(self) -> Float32[np.ndarray, "I I"]:
        """Return weights by the item of the past (row) and the item it votes for (column). The diagonal is 0."""
        return self.arrays["weights_II"]

    @abstractmethod
    def weights(self, user_items: UserItems) -> Float32[np.ndarray, "I I"]:
        """Learn the weights from who took what."""

    def fit(self: ItemItemT, data: Dataset | Split) -> ItemItemT:
        """Learn the weights, and for histories without a vote each item's number of users."""
        catalogue = catalogue_of(data)
        user_items = UserItems.of(training_histories(data), len(catalogue), weighted=True)
        self.learn(catalogue, {"weights_II": self.weights(user_items), "counts_I": user_items.totals_I})
        return self

    def scores(self, requests: Any) -> Float32[np.ndarray, "B I"]:
        """Sum the votes; popularity where there are none."""
        histories, weights_II = self.checked(requests).histories, self.weights_II
        scores_BI = np.empty((len(histories), len(weights_II)), dtype=np.float32)
        for row, history in zip(scores_BI, histories, strict=True):
            items_H = newest_distinct(history, self.config.window)
            votes_H = votes(history, items_H, self.config.decay)
            row[:] = votes_H @ weights_II[items_H]
            if not row.any():
                row[:] = self.arrays["counts_I"]
        return scores_BI
