"""What the crowd and the texts say of an item after a history, as numbers with names: for re-rankers and controls.

Shape legend: I items of the catalogue, N asked items, H distinct items of a history that vote, F features.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated

import numpy as np
from jaxtyping import Float32, Float64, Int
from pydantic import Field, PositiveFloat, PositiveInt

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.history import History
from thinkrank.data.interactions import newest_distinct
from thinkrank.data.popularity import log_popularity
from thinkrank.evidence.crowd import Crowd
from thinkrank.evidence.linear import ease_rows, inverse_gram
from thinkrank.evidence.neighbours import nearest_votes
from thinkrank.evidence.transitions import TransitionOptions, Transitions
from thinkrank.options import Options
from thinkrank.teachers.evidence import Facts

FEATURES = ("item_knn", "ease", "popularity", "next_after", "soon_after", "shared")
"""Logarithms of the nearest neighbours' votes, of the popularity and of both ways to come later, the score of EASE, and
the log-odds that attributes, decade and title speak for the item."""

Share = Annotated[float, Field(gt=0, le=1)]


class FeatureOptions(Options):
    """Say how evidence is counted."""

    window: PositiveInt = Field(20, description="distinct items of a history that vote, the newest")
    neighbours: PositiveInt = Field(200, description="nearest neighbours of each item whose votes count")
    shrinkage: float = Field(10.0, ge=0, description="people added to the divisor of the cosine")
    knn_decay: Share = Field(0.7, description="weight of an item's vote against the next newer one's, neighbours")
    ridge: PositiveFloat = Field(500.0, description="penalty on the squared weights of EASE, in people")
    ease_decay: Share = Field(0.8, description="weight of an item's vote against the next newer one's, EASE")
    next_decay: Share = Field(0.5, description="weight of an item's vote against the next newer one's, next choices")
    soon: TransitionOptions = Field(
        TransitionOptions(steps=10, decay=0.8), description="how pairs count that follow each other less closely"
    )
    least_vote: PositiveFloat = Field(0.01, description="added to votes before their logarithm is taken")


class EvidenceFeatures:
    """Compute the features of some items after a history, one user left out of all counts exactly.

    Memory: EASE's inverse is dense, 4 * I^2 bytes, and so are the counts that two items share, kept for those asked.

    Args:
        crowd: what was counted; made of a split, for what was loaded knows no order.
        catalogue: the items.
        options: how it is counted.
    """

    names = FEATURES

    def __init__(self, crowd: Crowd, catalogue: Catalogue, options: FeatureOptions | None = None) -> None:
        self.crowd, self.options = crowd, options or FeatureOptions()
        self._facts = Facts(catalogue, np.zeros(len(catalogue), dtype=np.int64))  # texts alone: nobody is counted
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def of(self, history: History, items: Sequence[int], without: int | None = None) -> Float32[np.ndarray, "N F"]:
        """Compute one row per item, columns as in `names`.

        Args:
            history: before the choice, oldest first; an empty one leaves popularity.
            items: catalogue rows.
            without: number of the user to leave out.
        """
        options, items_N = self.options, np.asarray(items, dtype=np.int64)
        items_H = newest_distinct(history, options.window)
        people_H = np.maximum(self.crowd.people(without)[items_H], 1)
        later = (
            self._votes([rows.row(item, without) for item in items_H.tolist()], options.next_decay, 1 / people_H)
            for rows in (self._next, self._soon)
        )
        columns = [
            np.log(self.knn_scores(items_H, without) + options.least_vote),
            self.ease_scores(items_H, without),
            log_popularity(self.crowd.events(without)),
            *(np.log(votes_I + options.least_vote) for votes_I in later),
        ]
        shared_N = self._facts.shared(history.items.tolist(), items_N)
        return np.stack([*(column_I[items_N] for column_I in columns), shared_N], axis=1).astype(np.float32)

    def knn_scores(self, items_H: Int[np.ndarray, "H"], without: int | None = None) -> Float64[np.ndarray, "I"]:
        """Sum the votes of the nearest neighbours, as `thinkrank.retrieve.ItemKNN` does, for items newest first."""
        votes_HI = np.zeros((len(items_H), self.crowd.num_items), np.float32)
        for votes_I, item in zip(votes_HI, items_H.tolist(), strict=True):
            nearest_N, votes_N = self._nearest(item, without)
            votes_I[nearest_N] = votes_N
        return self._votes(votes_HI, self.options.knn_decay)

    def _nearest(self, item: int, without: int | None) -> tuple[Int[np.ndarray, "N"], Float32[np.ndarray, "N"]]:
        """Find an item's nearest neighbours and their votes; kept where nobody is left out."""
        if without is None and item in self._kept:
            return self._kept[item]
        (votes_I,) = nearest_votes(
            self.crowd.together(item, without).astype(np.float32)[None],
            np.array([item]),
            self.crowd.people(without),
            neighbours=self.options.neighbours,
            shrinkage=self.options.shrinkage,
        )
        nearest_N = np.flatnonzero(votes_I)
        if without is None and self.options.neighbours < self.crowd.num_items:  # the crowd keeps whole rows
            self._kept[item] = nearest_N, votes_I[nearest_N]
        return nearest_N, votes_I[nearest_N]

    def ease_scores(self, items_H: Int[np.ndarray, "H"], without: int | None = None) -> Float64[np.ndarray, "I"]:
        """Sum the votes of EASE's weights, as `thinkrank.retrieve.EASE` does, for items newest first."""
        weights_HI = ease_rows(self._inverse_II, items_H, self.crowd.items(without))
        return self._votes(weights_HI, self.options.ease_decay)

    def _votes(
        self, rows_HI: Sequence[np.ndarray] | np.ndarray, decay: float, scales_H: np.ndarray | float = 1.0
    ) -> Float64[np.ndarray, "I"]:
        weights_H = decay ** np.arange(len(rows_HI)) * scales_H
        return weights_H @ np.reshape(rows_HI, (len(rows_HI), self.crowd.num_items))

    @cached_property
    def _inverse_II(self) -> Float32[np.ndarray, "I I"]:
        return inverse_gram(self.crowd.user_items, self.options.ridge)

    @cached_property
    def _next(self) -> Transitions:
        return Transitions(self.crowd.histories, self.crowd.num_items)

    @cached_property
    def _soon(self) -> Transitions:
        return Transitions(self.crowd.histories, self.crowd.num_items, self.options.soon)
