"""Off-policy estimates against worlds in which every display and its chance are enumerated."""

from itertools import permutations

import numpy as np
import pytest

from thinkrank.evaluate.off_policy import (
    doubly_robust,
    expected_rewards,
    importance_weights,
    ips,
    self_normalised,
)

CLICKS_IN = np.array([[0.9, 0.5, 0.2], [0.6, 0.3, 0.1], [0.3, 0.2, 0.05]])  # by item and place
TIMES = dict(zip(permutations(range(3)), (6, 1, 2, 3, 4, 8), strict=True))  # how often each order is displayed of 24
LOGGED = np.array([order for order, times in TIMES.items() for _ in range(times)] * 2)  # the same twice: for two users
USERS = np.repeat([0, 1], 24)
REWARDS = CLICKS_IN[LOGGED, np.arange(3)]
THERE = np.ones(LOGGED.shape, dtype=bool)


def chance(item, place):
    return sum(times for order, times in TIMES.items() if order[place] == item) / 24


PROPENSITIES = np.array([[chance(item, place) for place, item in enumerate(order)] for order in LOGGED.tolist()])


def estimates(wanted, propensities=PROPENSITIES, rewards=REWARDS, places=3):
    chosen = np.tile(wanted, (len(LOGGED), 1))
    logged, chosen, rewards = LOGGED[:, :places], chosen[:, :places], rewards[:, :places]
    weights = importance_weights(logged == chosen, propensities[:, :places], max_weight=np.inf)
    shown, asked = (expected_rewards(logged, rewards, USERS, items) for items in (logged, chosen))
    return {
        "ips": ips(rewards, weights),
        "snips": self_normalised(rewards, weights, THERE[:, :places]),
        "dr": doubly_robust(rewards, weights, shown, asked),
    }


@pytest.mark.parametrize("places", [1, 2, 3])
@pytest.mark.parametrize("wanted", list(TIMES))
def test_each_estimate_is_what_the_order_is_worth(wanted, places):
    worth = sum(CLICKS_IN[item, place] for place, item in enumerate(wanted[:places]))
    for name, values_L in estimates(wanted, places=places).items():
        assert values_L.mean() == pytest.approx(worth), name


def test_a_self_normalised_estimate_needs_propensities_up_to_a_factor_only():
    halved = estimates((2, 0, 1), PROPENSITIES / 2)
    worth = CLICKS_IN[[2, 0, 1], [0, 1, 2]].sum()
    assert halved["snips"].mean() == pytest.approx(worth)
    assert halved["ips"].mean() == pytest.approx(2 * worth)


def test_a_doubly_robust_estimate_with_a_true_reward_model_needs_no_propensities():
    chosen = np.tile((2, 1, 0), (len(LOGGED), 1))
    weights = importance_weights(chosen == LOGGED, np.full(LOGGED.shape, 0.9))
    values = doubly_robust(REWARDS, weights, REWARDS, CLICKS_IN[chosen, np.arange(3)])
    assert values.mean() == pytest.approx(CLICKS_IN[[2, 1, 0], [0, 1, 2]].sum())


def test_the_spread_of_a_ratio_is_that_of_the_delta_method():
    """Over many resampled logs, the ratio's own spread is what its numbers for the lists say of one log."""
    random, wanted = np.random.default_rng(0), np.array([1, 0, 2])
    clicks = (random.random(REWARDS.shape) < REWARDS).astype(float)
    weights = importance_weights(wanted == LOGGED, PROPENSITIES)

    def ratio(rows):
        total = weights[rows].sum(axis=0)
        return ((weights[rows] * clicks[rows]).sum(axis=0) / total).sum()

    values = self_normalised(clicks, weights, THERE)
    assert values.mean() == pytest.approx(ratio(np.arange(len(LOGGED))))
    resampled = [ratio(random.integers(0, len(LOGGED), len(LOGGED))) for _ in range(2000)]
    assert values.std() / np.sqrt(len(values)) == pytest.approx(np.std(resampled), rel=0.25)


def test_weights_are_clipped_and_a_bound_below_one_is_refused():
    same = np.array([[True, False]])
    assert importance_weights(same, np.array([[0.001, 0.5]]), max_weight=10.0).tolist() == [[10.0, 0.0]]
    with pytest.raises(ValueError, match="at least 1"):
        importance_weights(same, np.ones((1, 2)), max_weight=0.5)


def test_places_behind_a_lists_end_and_places_without_overlap_add_nothing():
    mask = np.array([[True, True], [True, False]])
    rewards = np.array([[1.0, 1.0], [0.0, 0.0]])
    weights = np.array([[2.0, 0.0], [2.0, 0.0]])
    assert self_normalised(rewards, weights, mask).mean() == pytest.approx(0.5)


def test_a_reward_is_predicted_by_other_users_alone():
    items, asked = np.array([[0, 1]] * 4), np.array([[0, 1]] * 4)
    users = np.array([0, 0, 1, 1])
    rewards = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    predicted = expected_rewards(items, rewards, users, asked)
    assert (predicted[:2] == 0).all()
    assert (predicted[2:, 0] > 0.9).all()
    assert expected_rewards(items, rewards, users, np.full_like(asked, -1)).sum() == 0
