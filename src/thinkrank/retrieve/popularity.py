"""Recommend to everyone what most people took: the floor that any model of users must clear."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64
from pydantic import Field, PositiveFloat

from thinkrank.data.dataset import Dataset
from thinkrank.data.history import History
from thinkrank.data.interactions import all_items, catalogue_of, event_weights, training_histories
from thinkrank.data.splits import Split
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options
from thinkrank.retrieve.base import DenseRetriever

SECONDS_PER_DAY = 86_400


class PopularityConfig(Options):
    """Hold the options of `Popularity`."""

    model: Literal["popularity"] = "popularity"
    half_life_days: PositiveFloat | None = Field(
        None, description="an interaction so many days older than the newest counts half; without it all count alike"
    )


class Popularity(DenseRetriever[PopularityConfig]):
    """Retriever that scores each item by its training interactions, the same for every history, empty or not.

    A user who took an item twice counts twice; types of events may have weights. Items never taken score 0.
    """

    kind = "popularity"
    config_class = PopularityConfig

    def fit(self, data: Dataset | Split) -> "Popularity":
        """Count, and return self.

        Raises:
            ThinkrankError: if recency is asked for and the histories have no times.
        """
        histories = training_histories(data)
        weights: np.ndarray | None = event_weights(histories)
        if self.config.half_life_days is not None:
            recent = _recency(histories, self.config.half_life_days)
            weights = recent if weights is None else recent * weights
        catalogue = catalogue_of(data)
        counts_I = np.bincount(all_items(histories), weights, minlength=len(catalogue))
        self.learn(catalogue, {"counts_I": counts_I.astype(np.float32)})
        return self

    def scores(self, requests: Any) -> Float32[np.ndarray, "B I"]:
        """Give every request the same counts."""
        return np.tile(self.arrays["counts_I"], (len(self.checked(requests)), 1))


def _recency(histories: Sequence[History], half_life_days: float) -> Float64[np.ndarray, "E"]:
    times = [history.times for history in histories if len(history)]
    if any(part is None for part in times):
        raise ThinkrankError("half_life_days needs the times of interactions, and this data has none")
    age_E = np.concatenate([np.zeros(0), *(part for part in times if part is not None)])
    age_E = age_E.max(initial=-np.inf) - age_E
    return np.asarray(0.5 ** (age_E / (half_life_days * SECONDS_PER_DAY)))
