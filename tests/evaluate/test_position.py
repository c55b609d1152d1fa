"""Position bias: Kendall's tau against a loop over pairs, and two rankers whose bias is known."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkrank.data import candidate_sets, split_dataset
from thinkrank.evaluate import kendall_tau, position_bias
from thinkrank.testing import two_tribes


def tau_b(first, second):
    """From the definition, pair by pair."""
    score = untied_first = untied_second = 0
    for i, j in itertools.combinations(range(len(first)), 2):
        a, b = first[i] - first[j], second[i] - second[j]
        score += (a * b > 0) - (a * b < 0)
        untied_first += a != 0
        untied_second += b != 0
    if untied_first and untied_second:
        return score / math.sqrt(untied_first * untied_second)
    return float(untied_first == untied_second)


runs = st.integers(2, 6).flatmap(
    lambda n: st.lists(st.lists(st.integers(-2, 2), min_size=n, max_size=n), min_size=2, max_size=4)
)


@given(runs)
@settings(max_examples=60)
def test_tau_is_the_mean_over_pairs_of_runs(rows):
    found = kendall_tau(np.array(rows, dtype=np.float64)[:, None])
    pairs = [tau_b(a, b) for a, b in itertools.combinations(rows, 2)]
    assert found.tolist() == pytest.approx([sum(pairs) / len(pairs)], abs=1e-12)


@given(runs)
@settings(max_examples=30)
def test_padding_takes_no_part(rows):
    scores = np.array(rows, dtype=np.float64)[:, None]
    padded = np.concatenate([scores, np.random.default_rng(0).normal(size=(len(rows), 1, 2))], axis=2)
    padded[0, 0, -1] = np.nan
    mask = np.array([[True] * scores.shape[2] + [False] * 2])
    np.testing.assert_allclose(kendall_tau(padded, mask), kendall_tau(scores))


def test_the_same_order_agrees_wholly_and_the_reverse_not_at_all():
    scores = np.array([[3.0, 2.0, 1.0], [30.0, 20.0, 10.0]])[:, None]
    assert kendall_tau(scores).tolist() == [1.0]
    assert kendall_tau(scores * np.array([1, -1])[:, None, None]).tolist() == [-1.0]


def test_one_run_is_compared_with_nothing():
    with pytest.raises(ValueError, match="at least 2 runs"):
        kendall_tau(np.zeros((1, 2, 3)))


@pytest.fixture(scope="module")
def shown():
    sets = candidate_sets(split_dataset(two_tribes(users_per_tribe=30), fractions=(0.0, 0.0, 1.0)).test, 6)
    return [sets.shuffled(seed) for seed in range(4)]


def test_a_ranker_that_looks_at_each_candidate_alone_has_no_bias(shown):
    scores = [np.sin(sets.items_BN + 1.0) + [[len(history)] for history in sets.histories] for sets in shown]
    bias = position_bias(scores, shown)
    assert (bias.tau_B == 1).all()
    assert bias.spread == 0
    assert (bias.ndcg_KB == bias.ndcg_KB[0]).all()


def test_a_ranker_that_repeats_the_order_shown_is_all_bias(shown):
    width = shown[0].items_BN.shape[1]
    bias = position_bias([np.tile(-np.arange(width, dtype=np.float32), (len(sets), 1)) for sets in shown], shown, k=3)
    means, counts = bias.by_place(width)
    np.testing.assert_allclose(means, [1, 1 / math.log2(3), 0.5, 0, 0, 0])
    assert counts.sum() == 4 * len(shown[0])
    assert abs(bias.tau_B.mean()) < 0.1
    assert bias.spread == pytest.approx(np.std([bias.ndcg_KB[order].mean() for order in range(4)], ddof=1))


def test_rows_say_what_was_found(shown):
    rng = np.random.default_rng(0)
    bias = position_bias([rng.random(sets.items_BN.shape) for sets in shown], shown)
    rows = {
        row.metric: row for row in bias.rows(shown[0].samples.users, dataset="tribes", split="test", system="random")
    }
    tau = rows["kendall tau over orders"]
    assert tau.low <= tau.value <= tau.high
    assert tau.value == pytest.approx(bias.tau_B.mean())
    assert rows["ndcg@10 deviation over orders"].value == bias.spread
    places = [row for name, row in rows.items() if "shown at" in name]
    assert [row.metric for row in places] == [f"ndcg@10, true item shown at {place}" for place in range(1, 7)]
    assert sum(row.n * row.value for row in places) / sum(row.n for row in places) == pytest.approx(bias.ndcg_KB.mean())


def test_a_place_that_no_true_item_was_shown_at_has_no_figure(shown):
    bias = position_bias([np.zeros(sets.items_BN.shape) for sets in shown], shown)
    means, counts = bias.by_place(9)
    assert np.isnan(means[6:]).all()
    assert (counts[6:] == 0).all()


def test_orders_of_different_sets_and_single_orders_are_refused(shown):
    scores = [np.zeros(sets.items_BN.shape) for sets in shown]
    with pytest.raises(ValueError, match="at least 2 orders"):
        position_bias(scores[:1], shown[:1])
    with pytest.raises(ValueError, match="got 1 of 2"):
        position_bias(scores[:1], shown[:2])
    other = candidate_sets(shown[0].samples, 6, seed=9)
    with pytest.raises(ValueError, match="not orders of the same"):
        position_bias(scores[:2], [shown[0], other])
