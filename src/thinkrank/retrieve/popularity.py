"""Recommend to everyone what most people took: the floor that any model of users must clear."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64
from pydantic import PositiveFloat

from thinkrank.data import Dataset, History, Split
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options
from thinkrank.retrieve.base import Baseline
from thinkrank.retrieve.interactions import all_items, catalogue_size, training_histories
from thinkrank.stages.checks import check_histories

SECONDS_PER_DAY = 86_400


class PopularityConfig(Options):
    """Options of `Popularity`.

    Attributes:
        half_life_days: an interaction this much older than the newest one counts half; None counts all alike.
    """

    model: Literal["popularity"] = "popularity"
    half_life_days: PositiveFloat | None = None


class Popularity(Baseline[PopularityConfig]):
    """Scores are the training interactions of each item, the same for every history, empty or not.

    A user who took an item twice counts twice. Items never taken score 0.
    """

    config_class = PopularityConfig

    def fit(self, data: Dataset | Split) -> "Popularity":
        """Count.

        Raises:
            ThinkrankError: if recency is asked for and the histories have no times.
        """
        histories = training_histories(data)
        weights = None if self.config.half_life_days is None else _recency(histories, self.config.half_life_days)
        counts_I = np.bincount(all_items(histories), weights, minlength=catalogue_size(data))
        self._arrays = {"counts_I": counts_I.astype(np.float32)}
        return self

    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "B I"]:
        """The same counts for every history."""
        self._check_fitted()
        counts_I = self._arrays["counts_I"]
        check_histories(histories, len(counts_I))
        return np.tile(counts_I, (len(histories), 1))


def _recency(histories: Sequence[History], half_life_days: float) -> Float64[np.ndarray, "E"]:
    times = [history.times for history in histories if len(history)]
    if any(part is None for part in times):
        raise ThinkrankError("half_life_days needs the times of interactions, and this data has none")
    age_E = np.concatenate([np.zeros(0), *(part for part in times if part is not None)])
    age_E = age_E.max(initial=-np.inf) - age_E
    return np.asarray(0.5 ** (age_E / (half_life_days * SECONDS_PER_DAY)))
