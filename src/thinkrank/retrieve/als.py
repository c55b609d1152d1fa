"""Implicit ALS: factors of users and items, solved for in turns; a user is folded in from his history.

For each (user, item) pair a preference is predicted, 1 where the user took the item and 0 elsewhere, and pairs that
were taken count `confidence` times more:

    sum over u, i of c_ui (p_ui - x_u · y_i)^2 + ridge (sum_u |x_u|^2 + sum_i |y_i|^2),  c_ui = 1 + confidence p_ui

With one side fixed the other is a ridge regression for each row. Chosen instead of BPR: no sampling and no learning
rate, so few settings decide; and a request needs no user who was there in training, since a history is folded in by
the same formula. BPR learns a vector for each training user and would need another rule for everybody else.

Kept from the paper (Hu, Koren & Volinsky 2008): the loss, the sweeps, Y'Y shared by all users. Changed: in answers the
confidence of an item falls with its place in the history (`decay`), as votes do in item–item models.

Shape legend: U users, I items, D width, H items of one history, R rows that are solved for, P distinct pairs.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float32, Int, Int64
from pydantic import Field, PositiveFloat, PositiveInt

from thinkrank.data.dataset import Dataset
from thinkrank.data.interactions import UserItems, catalogue_of, newest_distinct, training_histories, votes
from thinkrank.data.splits import Split
from thinkrank.retrieve.base import DenseRetriever
from thinkrank.retrieve.item_item import Decay, ItemItemConfig


class ALSConfig(ItemItemConfig):
    """Hold the options of `ALS`. The defaults are good on the validation parts of MovieLens-100K and Amazon Office."""

    model: Literal["als"] = "als"
    decay: Decay = 0.8
    width: PositiveInt = Field(64, description="numbers in a factor")
    confidence: PositiveFloat = Field(10.0, description="how many times more a pair that was taken counts")
    ridge: PositiveFloat = Field(50.0, description="penalty on the squared factors")
    sweeps: PositiveInt = Field(10, description="how often users and then items are solved for")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of the items' first factors")


class ALS(DenseRetriever[ALSConfig]):
    """Retriever by factors of users and items; its arithmetic is float32.

    A repeated item counts once, at its newest place. A history without an item that training saw, so an empty one too,
    is answered with the popularity order.
    """

    kind = "als"
    config_class = ALSConfig

    def fit(self, data: Dataset | Split) -> "ALS":
        """Learn the items' factors, and for histories without a known item each item's number of users."""
        catalogue, config = catalogue_of(data), self.config
        by_user = UserItems.of(training_histories(data), len(catalogue), weighted=True)
        by_item = by_user.transposed()
        items_ID = np.random.default_rng(config.seed).normal(0, 0.1, (len(catalogue), config.width)).astype(np.float32)
        for _ in range(config.sweeps):
            users_UD = solved(items_ID, by_user.starts_U, by_user.items_P, config, by_user.weights_P)
            items_ID = solved(users_UD, by_item.starts_U, by_item.items_P, config, by_item.weights_P)
        self.learn(catalogue, {"items_ID": items_ID, "counts_I": by_user.totals_I})
        return self

    def scores(self, requests: Any) -> Float32[np.ndarray, "B I"]:
        """Predict preferences for all items from the factors that fit the history; popularity where none is known."""
        items_ID, counts_I, config = self.arrays["items_ID"], self.arrays["counts_I"], self.config
        histories = self.checked(requests).histories
        known = [newest_distinct(history, config.window) for history in histories]
        known = [items_H[counts_I[items_H] > 0] for items_H in known]
        decays = [votes(history, items_H, config.decay) for history, items_H in zip(histories, known, strict=True)]
        starts = np.concatenate([[0], np.cumsum([len(items_H) for items_H in known])]).astype(np.int64)
        users_BD = solved(items_ID, starts, _joined(known, np.int32), config, _joined(decays, np.float32))
        scores_BI = users_BD @ items_ID.T
        scores_BI[np.diff(starts) == 0] = counts_I
        return scores_BI


def solved(
    others_ID: Float32[np.ndarray, "I D"],
    starts: Int64[np.ndarray, "R_plus_1"],
    taken_P: Int[np.ndarray, "P"],
    config: ALSConfig,
    decays_P: Float32[np.ndarray, "P"] | None = None,
) -> Float32[np.ndarray, "R D"]:
    """Find the factors that fit what each row took, those of the other side being fixed.

    x = (Y'Y + w Y_t' C Y_t + ridge I)^-1 Y_t' (1 + w C),  Y_t the factors of what was taken, w the confidence and C
    the decays on a diagonal.

    Args:
        others_ID: factors of the other side.
        starts: R + 1 offsets into what was taken.
        taken_P: rows of the other side.
        config: of it, confidence and ridge.
        decays_P: by which each pair's confidence is multiplied: weights of events, and in answers decays; None for 1.

    Source: the paper, section 4, equation 4.
    """
    shared_DD = others_ID.T @ others_ID + np.float32(config.ridge) * np.eye(others_ID.shape[1], dtype=np.float32)
    found_RD = np.zeros((len(starts) - 1, others_ID.shape[1]), dtype=np.float32)
    more_P = np.full(len(taken_P), config.confidence, dtype=np.float32) * (1 if decays_P is None else decays_P)
    for row in np.flatnonzero(np.diff(starts)):
        part = slice(starts[row], starts[row + 1])
        taken_HD, more_H = others_ID[taken_P[part]], more_P[part]
        gram_DD = shared_DD + (taken_HD * more_H[:, None]).T @ taken_HD
        found_RD[row] = np.linalg.solve(gram_DD, (1 + more_H) @ taken_HD)
    return found_RD


def _joined(parts: Sequence[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *parts])
