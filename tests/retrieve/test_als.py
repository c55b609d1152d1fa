"""Implicit ALS against the ridge regressions that its sweeps stand for, solved over every pair one by one."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.data import Dataset, FilterOptions, History, apply_filters
from thinkrank.data.interactions import UserItems, training_histories
from thinkrank.retrieve import ALS, ALSConfig, Popularity
from thinkrank.testing import LearnsTasteContract, two_tribes
from thinkrank.testing.worlds import COLD_ITEM

SMALL = ALSConfig(width=4, confidence=3.0, ridge=0.5, sweeps=4)
DATASET = two_tribes()
HISTORIES = training_histories(DATASET)


class TestALS(LearnsTasteContract):
    @classmethod
    def fit(cls, dataset):
        return ALS(SMALL).fit(dataset)


def least_squares(others_ID: np.ndarray, confidences_I: np.ndarray, ridge: float) -> np.ndarray:
    """The x that is best against preferences 1 where the confidence is above 1, every pair an equation of its own."""
    weights_I = np.sqrt(confidences_I)
    equations = np.concatenate([others_ID * weights_I[:, None], np.sqrt(ridge) * np.eye(others_ID.shape[1])])
    wanted = np.concatenate([weights_I * (confidences_I > 1), np.zeros(others_ID.shape[1])])
    return np.linalg.lstsq(equations, wanted, rcond=None)[0]


def weighed() -> Dataset:
    """The same events, every third a view that counts a quarter."""
    kinds = pl.Series("event", ["view" if row % 3 else "buy" for row in range(DATASET.interactions.height)])
    events = DATASET.interactions.with_columns(kinds)
    return apply_filters(replace(DATASET, interactions=events), FilterOptions(event={"buy": 1.0, "view": 0.25}))


@pytest.mark.parametrize("dataset", [DATASET, weighed()], ids=["alike", "weighed"])
def test_a_sweep_solves_every_user_and_then_every_item(dataset):
    before_ID, after_ID = (
        ALS(SMALL.model_copy(update={"sweeps": sweeps})).fit(dataset).arrays["items_ID"] for sweeps in (1, 2)
    )
    taken_UI = np.zeros((len(HISTORIES), len(DATASET.catalogue)))
    counts = {"buy": 1.0, "view": 0.25, None: 1.0}
    kinds = dataset.interactions["event"] if dataset is not DATASET else [None] * dataset.interactions.height
    users_E = np.repeat(np.arange(len(HISTORIES)), [len(history) for history in HISTORIES])
    for user, item, kind in zip(users_E, dataset.items_E, kinds, strict=True):
        taken_UI[user, item] = max(taken_UI[user, item], counts[kind])
    confidences_UI = 1 + SMALL.confidence * taken_UI
    users_UD = np.stack([least_squares(before_ID, row, SMALL.ridge) for row in confidences_UI])
    items_ID = np.stack([least_squares(users_UD, column, SMALL.ridge) for column in confidences_UI.T])
    np.testing.assert_allclose(after_ID, items_ID, rtol=1e-3, atol=1e-5)
    assert np.abs(after_ID - before_ID).max() > 0.01


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_a_history_is_folded_in_by_the_same_regression_newer_items_counting_more(decay):
    model = ALS(SMALL.model_copy(update={"decay": decay, "window": 3})).fit(DATASET)
    confidences_I = np.ones(len(DATASET.catalogue))
    confidences_I[[3, 0, 1]] += SMALL.confidence * decay ** np.arange(3)  # newest first 3, 0, 1; 2 is outside
    user_D = least_squares(model.arrays["items_ID"], confidences_I, SMALL.ridge)
    found_I = model.scores([History.of([2, 3, 1, 0, 3])])[0]
    np.testing.assert_allclose(found_I, model.arrays["items_ID"] @ user_D, rtol=1e-3, atol=1e-5)


def test_an_event_of_a_history_is_as_sure_as_its_type():
    model = ALS(SMALL.model_copy(update={"decay": 1.0})).fit(DATASET)
    confidences_I = np.ones(len(DATASET.catalogue))
    confidences_I[[3, 0]] += SMALL.confidence * np.array([0.25, 1.0])
    user_D = least_squares(model.arrays["items_ID"], confidences_I, SMALL.ridge)
    history = replace(History.of([0, 3, 0]), weights=np.array([1.0, 0.25, 0.25], np.float32))
    np.testing.assert_allclose(model.scores([history])[0], model.arrays["items_ID"] @ user_D, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("history", [History.of([]), History.of([COLD_ITEM])])
def test_a_history_of_which_nothing_is_known_is_answered_with_popularity(history):
    np.testing.assert_array_equal(
        ALS(SMALL).fit(DATASET).scores([history]), Popularity().fit(DATASET).scores([history])
    )


def test_the_seed_draws_the_first_factors():
    first, same, other = (
        ALS(SMALL.model_copy(update={"seed": seed})).fit(DATASET).arrays["items_ID"] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


@given(lists=st.lists(st.lists(st.integers(0, 6), max_size=6), max_size=6))
def test_pairs_by_item_are_those_by_user_turned_round(lists):
    by_user = UserItems.of([History.of(items) for items in lists], 7)
    by_item = by_user.transposed()
    assert (len(by_item.starts_U), by_item.num_items) == (8, len(lists))
    for item in range(7):
        users = by_item.items_P[by_item.starts_U[item] : by_item.starts_U[item + 1]].tolist()
        assert users == [user for user, items in enumerate(lists) if item in items]
