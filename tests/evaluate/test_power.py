"""The smallest visible effect: what the paired test really finds, and a closed form where there is one."""

import math

import numpy as np
import pytest

from thinkrank.evaluate import paired_test
from thinkrank.evaluate._student import visible_difference
from thinkrank.evaluate.power import Spread, effect_words, foreseen_effect, spread, visible_effect
from thinkrank.evaluate.significance import paired_tests


def drawn(random, users, sizes, between, within, effect=0.0):
    """Differences of samples whose users have means of their own."""
    clusters = np.repeat(np.arange(users), sizes)
    means = random.normal(effect, math.sqrt(between), users)
    return means[clusters] + random.normal(0, math.sqrt(within), len(clusters)), clusters


def test_independent_samples_have_the_closed_form():
    """(z_.975 + z_.8) s / sqrt(n), the textbook's, as t is near z with 900 samples."""
    differences = np.random.default_rng(0).normal(0, 0.3, 900)
    textbook = (1.959964 + 0.841621) * differences.std(ddof=1) / 30
    assert visible_effect(differences) == pytest.approx(textbook, rel=2e-3)
    assert foreseen_effect(spread(differences), np.arange(900)) == pytest.approx(textbook, rel=2e-3)
    more = (2.575829 + 1.281552) * differences.std(ddof=1) / 30
    assert visible_effect(differences, level=0.01, power=0.9) == pytest.approx(more, rel=3e-3)


@pytest.mark.parametrize(("df", "critical", "level"), [(2, 4.302653, 0.05), (2, 7.648867, 1 / 60), (4, 2.776445, 0.05)])
def test_a_test_over_few_trainings_finds_the_visible_difference_in_four_of_five_runs(df, critical, level):
    """Drawn from the definition: a normal over the root of a chi-square; critical values of printed tables."""
    random, shift = np.random.default_rng(6), visible_difference(1.0, float(df), level=level)
    t = (random.normal(shift, 1, 400_000)) / np.sqrt(random.chisquare(df, 400_000) / df)
    assert np.mean(np.abs(t) > critical) == pytest.approx(0.8, abs=0.003)


@pytest.mark.parametrize("between", [0.0, 0.02])
def test_the_paired_test_finds_the_foreseen_effect_in_four_of_five_runs(between):
    """Simulated under the alternative, users of unequal sizes."""
    random, users, runs = np.random.default_rng(1), 40, 200
    sizes = random.integers(1, 15, users)
    clusters = np.repeat(np.arange(users), sizes)
    effect = foreseen_effect(Spread(between, 0.1), clusters)
    columns = [drawn(random, users, sizes, between, 0.1, effect)[0] for _ in range(runs)]
    tests = paired_tests(np.stack(columns, axis=1), clusters, num_resamples=200)
    assert sum(test.p_value < 0.05 for test in tests) / runs == pytest.approx(0.8, abs=0.08)


def test_a_pilot_foresees_what_a_run_of_other_size_will_see():
    random = np.random.default_rng(2)
    pilot, clusters = drawn(random, 400, random.integers(1, 9, 400), 0.05, 0.2)
    found = spread(pilot, clusters)
    assert found.between == pytest.approx(0.05, rel=0.25)
    assert found.within == pytest.approx(0.2, rel=0.1)
    later, of_users = drawn(random, 1500, 6, 0.05, 0.2)
    assert foreseen_effect(found, of_users) == pytest.approx(visible_effect(later, of_users), rel=0.12)


def test_it_is_what_the_paired_test_tells():
    values, clusters = drawn(np.random.default_rng(3), 30, 4, 0.1, 0.1)
    assert paired_test(values, np.zeros(120), clusters).visible == visible_effect(values, clusters)


def test_too_few_users_see_nothing_and_the_words_say_so():
    values, clusters = drawn(np.random.default_rng(4), 5, 20, 0.1, 0.1)
    assert visible_effect(values, clusters) is None
    assert foreseen_effect(spread(values, clusters), clusters) is None
    assert effect_words(None, 0.1, 100, 5) == "your 100 test moments of 5 users are of too few users to see any effect"
    told = effect_words(0.011, 0.1, 1807, 1807)
    assert told == "with your 1,807 test moments, effects below 11 % cannot be seen"
    assert "below 150 % cannot" in effect_words(0.15, 0.1, 50, 50)
    assert "below 100 % cannot" in effect_words(0.0996, 0.1, 50, 50)
    with pytest.raises(ValueError, match="two samples at least, got 1"):
        spread(np.zeros(1))
