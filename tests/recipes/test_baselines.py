"""Systems that know ids only: their settings are those that do best on validation."""

import numpy as np
import pytest

from thinkrank.data import World, WorldOptions, split_dataset
from thinkrank.recipes.baselines import EASE_R, ITEM_KNN, POPULARITY, chosen_settings, fitted_baselines
from thinkrank.retrieve import Popularity, PopularityConfig


@pytest.fixture(scope="module")
def dataset():
    return World(WorldOptions(users=60, items=40, styles=8, kinds=8, events=10)).dataset()


def test_the_half_life_of_popularity_is_the_best_on_validation_by_recount(dataset):
    split = split_dataset(dataset)
    (model,) = fitted_baselines(split, [POPULARITY]).values()
    start, end = split.train_ranges.T
    events = np.concatenate([np.arange(a, b) for a, b in zip(start, end, strict=True)])
    ages = (dataset.times_E[events].max() - dataset.times_E[events]) / 86_400
    found = {}
    for days in (None, 7, 30, 90, 365):
        weights = np.ones(len(ages)) if days is None else 0.5 ** (ages / days)
        counts_I = np.bincount(dataset.items_E[events], weights, len(dataset.catalogue)).astype(np.float32)
        gains = []
        for sample in split.valid:
            free = np.setdiff1d(np.arange(len(counts_I)), sample.history.items)
            rank = np.count_nonzero(counts_I[free] >= counts_I[sample.target])
            gains.append(1 / np.log2(rank + 1) if rank <= 10 and sample.target in free else 0.0)
        found[days] = np.mean(gains)
    assert found[model.config.half_life_days] == max(found.values())
    assert len(set(found.values())) > 1
    wanted = Popularity(PopularityConfig(half_life_days=model.config.half_life_days)).fit(split)
    np.testing.assert_array_equal(model.arrays["counts_I"], wanted.arrays["counts_I"])


def test_every_counted_system_tells_what_was_chosen_and_without_validation_keeps_its_defaults(dataset):
    names = (POPULARITY, ITEM_KNN, EASE_R)
    told, defaults = (
        chosen_settings(fitted_baselines(split_dataset(dataset, fractions=fractions), names))
        for fractions in ((0.8, 0.1, 0.1), (0.8, 0.0, 0.2))
    )
    assert {name: set(settings) for name, settings in told.items()} == {
        POPULARITY: {"half_life_days"},
        ITEM_KNN: {"shrinkage", "neighbours", "decay"},
        EASE_R: {"ridge", "decay"},
    }
    assert told != defaults
    assert defaults[POPULARITY] == {"half_life_days": None}
    assert defaults[EASE_R] == {"ridge": 500.0, "decay": 0.8}
