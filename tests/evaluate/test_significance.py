"""Intervals and tests against enumeration, textbook formulas and their own promises."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkrank.evaluate import bootstrap_intervals, paired_test, significance
from thinkrank.evaluate._student import quantile, within

small_differences = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.1, 0.3, 2.0]), min_size=6, max_size=9)


def column(values) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)[:, None]


def test_the_interval_of_many_independent_samples_is_the_normal_one():
    values = np.random.default_rng(0).normal(3, 2, size=4000)
    (interval,) = bootstrap_intervals(column(values), num_resamples=4000)
    half_width = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half_width, abs=0.1 * half_width)
    assert interval.high == pytest.approx(values.mean() + half_width, abs=0.1 * half_width)


def test_the_interval_of_few_clusters_is_that_of_all_possible_draws():
    values, clusters = np.array([0.0, 1.0, 5.0, 2.0]), ["a", "a", "b", "c"]
    draws = product([[0.0, 1.0], [5.0], [2.0]], repeat=3)
    means = [np.mean([value for cluster in draw for value in cluster]) for draw in draws]
    (interval,) = bootstrap_intervals(column(values), np.array(clusters), confidence=0.8, num_resamples=20_000, seed=1)
    low, high = np.quantile(means, [0.1, 0.9])
    assert interval.low == pytest.approx(low, abs=0.05)
    assert interval.high == pytest.approx(high, abs=0.05)


def test_copies_of_a_user_make_the_interval_no_narrower():
    values = np.random.default_rng(0).normal(size=60)
    (once,) = bootstrap_intervals(column(values))
    (copied,) = bootstrap_intervals(column(np.repeat(values, 9)), np.repeat(np.arange(60), 9))
    (blind,) = bootstrap_intervals(column(np.repeat(values, 9)))
    assert copied.high - copied.low == pytest.approx(once.high - once.low)
    assert blind.high - blind.low < 0.5 * (once.high - once.low)


def test_one_sample_per_cluster_is_no_clustering():
    values = column(np.random.default_rng(0).normal(size=20))
    assert bootstrap_intervals(values, np.arange(20)) == bootstrap_intervals(values)


def test_metrics_share_their_resamples():
    values = np.random.default_rng(0).normal(size=20)
    first, second = bootstrap_intervals(np.stack([values, 2 * values], axis=1))
    assert (second.low, second.high) == pytest.approx((2 * first.low, 2 * first.high))


def test_the_block_size_bounds_memory_and_not_the_number_of_draws(monkeypatch):
    monkeypatch.setattr(significance, "BLOCK_CELLS", 70)
    blocks = list(significance.cluster_draws(20, 50, np.random.default_rng(0)))
    assert sum(len(block) for block in blocks) == 50
    assert all(block.size <= 70 for block in blocks)
    assert all((block.sum(axis=1) == 20).all() for block in blocks)


def test_a_seed_gives_one_interval_and_another_seed_another():
    values = column(np.random.default_rng(0).normal(size=30))
    assert bootstrap_intervals(values, seed=3) == bootstrap_intervals(values, seed=3)
    assert bootstrap_intervals(values, seed=3) != bootstrap_intervals(values, seed=4)


@given(differences=small_differences)
def test_the_p_value_of_few_samples_is_that_of_all_sign_patterns(differences):
    observed = abs(sum(differences))
    totals = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in signs_of(differences)]
    expected = sum(total >= observed - 1e-9 for total in totals) / len(totals)
    test = paired_test(np.array(differences), np.zeros(len(differences)), num_resamples=1)
    assert test.p_value == pytest.approx(expected)


def signs_of(differences: list[float]) -> list[tuple[int, ...]]:
    return list(product([-1, 1], repeat=len(differences)))


@settings(max_examples=20)
@given(differences=small_differences)
def test_drawing_sign_patterns_comes_near_to_all_of_them(differences):
    values, zeros = np.array(differences), np.zeros(len(differences))
    exact = paired_test(values, zeros, num_resamples=1).p_value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(significance, "ENUMERATE_UP_TO", -1)
        assert paired_test(values, zeros, num_resamples=4000).p_value == pytest.approx(exact, abs=0.05)


def test_a_system_does_not_differ_from_itself():
    values = np.random.default_rng(0).normal(size=100)
    test = paired_test(values, values)
    assert test.p_value == 1
    assert (test.difference.low, test.difference.high) == (0, 0)


def test_swapping_the_systems_swaps_the_sign_only():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.3, 1, size=(2, 40))
    there, back = paired_test(ours, theirs), paired_test(theirs, ours)
    assert there.p_value == pytest.approx(back.p_value)
    assert there.difference.value == pytest.approx(-back.difference.value)


def test_without_an_effect_small_p_values_are_as_rare_as_they_say():
    rng = np.random.default_rng(0)
    p_values = [
        paired_test(rng.normal(size=30), rng.normal(size=30), num_resamples=200, seed=seed).p_value
        for seed in range(200)
    ]
    assert np.mean(np.array(p_values) <= 0.1) == pytest.approx(0.1, abs=0.05)


def test_samples_of_one_user_flip_together():
    # Six users with seven samples each say no more than six users.
    ours, theirs = np.ones(42), np.zeros(42)
    assert paired_test(ours, theirs, np.arange(42) % 6).p_value == 2 / 2**6
    assert paired_test(ours, theirs).p_value < 0.001


def test_so_few_users_that_no_p_could_be_small_get_none():
    test = paired_test(np.ones(40), np.zeros(40), np.arange(40) % 5)
    assert (test.p_value, test.visible, test.num_clusters, test.difference.value) == (None, None, 5, 1.0)


def test_a_p_value_from_draws_is_never_zero():
    assert paired_test(np.ones(100), np.zeros(100), num_resamples=99).p_value == 0.01


def test_several_differences_at_once_are_each_tested_as_alone():
    rng = np.random.default_rng(0)
    differences, users = rng.normal(0.1, 1, size=(90, 3)), rng.integers(0, 30, 90)
    alone = [paired_test(column, np.zeros(90), users) for column in differences.T]
    together = significance.paired_tests(differences, users)
    assert [test.p_value for test in together] == [test.p_value for test in alone]
    assert [test.visible for test in together] == pytest.approx([test.visible for test in alone])


def test_the_distribution_is_that_of_student():
    # From printed tables: two-sided .05 and one-sided .8; and Cauchy's distribution at one degree of freedom.
    for df, both, four_fifths in (
        (1, 12.7062, 1.37638),
        (2, 4.30265, 1.06066),
        (4, 2.77645, 0.940965),
        (30, 2.04227, 0.853767),
        (1e6, 1.95996, 0.841622),
    ):
        assert quantile(0.975, float(df)) == pytest.approx(both, rel=1e-4)
        assert quantile(0.8, float(df)) == pytest.approx(four_fifths, rel=1e-4)
        assert within(both, float(df)) == pytest.approx(0.95, abs=1e-5)
    assert within(3.0, 1.0) == pytest.approx(2 * np.arctan(3) / np.pi, abs=1e-7)


def test_what_is_said_to_be_visible_is_seen_four_times_in_five():
    rng = np.random.default_rng(0)
    users = np.sort(rng.integers(0, 40, 160))
    own = rng.normal(size=40)[users]
    visible = paired_test(own + rng.normal(size=160), np.zeros(160), users).visible
    seen = 0
    for seed in range(120):
        differences = visible + rng.normal(size=40)[users] + rng.normal(size=160)
        seen += paired_test(differences, np.zeros(160), users, num_resamples=99, seed=seed).p_value <= 0.05
    assert seen / 120 == pytest.approx(0.8, abs=0.12)


def test_the_smallest_p_of_several_is_multiplied_by_their_number():
    assert significance.holm([0.02, None, 0.3, 0.01, 0.04]) == pytest.approx([0.06, None, 0.3, 0.04, 0.08], nan_ok=True)
    assert significance.holm([0.9, 0.8]) == [1.0, 1.0]
    assert significance.holm([]) == []


def test_senseless_requests_are_refused():
    with pytest.raises(ValueError, match="no samples"):
        bootstrap_intervals(np.zeros((0, 1)))
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_intervals(np.zeros((2, 1)), confidence=95.0)
    with pytest.raises(ValueError, match="num_resamples"):
        bootstrap_intervals(np.zeros((2, 1)), num_resamples=0)
