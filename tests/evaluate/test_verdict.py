"""The sentence on how a system compares with the best of others."""

import re

import numpy as np
import pytest

from thinkrank.evaluate._figures import Figures
from thinkrank.evaluate.verdict import in_words, of_thinking, verdict


class Fixed(Figures):
    """Values per system, and the paired test of the package on them."""

    systems, metrics, cutoffs, ties, policy = (), ("ndcg@10",), (10,), "pessimistic", {}

    def __init__(self, users, **values):
        self.users_S, self._values = np.asarray(users), {name: np.asarray(v, float) for name, v in values.items()}

    def values(self, system, metric):
        return self._values[system]


def test_it_names_the_best_other_the_difference_and_how_sure_it_is():
    users = np.repeat(np.arange(40), 2)
    base = np.tile([0.2, 0.4], 40)
    told = verdict(Fixed(users, ours=base + 0.1, low=base - 0.2, best=base), "ours", ["low", "best"])
    assert told.startswith("ours: NDCG@10 .4000, 33% above best (.3000), the best of 2 others; difference +.1000")
    assert "p < .001" in told
    told = verdict(Fixed(users, ours=base - 0.1, low=base - 0.2, best=base), "ours", ["low", "best"])
    assert "33% below best" in told
    assert "difference -.1000 [-.1000, -.1000]" in told


def test_below_the_best_of_many_the_p_value_is_corrected_for_their_number():
    """Of six systems that are alike, one is surely below the best of the others about as rarely as .05 says."""
    random, surely = np.random.default_rng(0), 0
    for _ in range(40):
        values = {name: random.random(60) for name in ("ours", "a", "b", "c", "d", "e")}
        told = verdict(Fixed(range(60), **values), "ours", ["a", "b", "c", "d", "e"])
        p_value = float(re.search(r"p (?:< )?([.\d]+)", told)[1])
        assert ("corrected for 5 others" in told) == ("below" in told)
        surely += "below" in told and p_value < 0.05
    assert surely == 0  # without a correction it is three of these forty
    told = verdict(Fixed(range(60), ours=random.random(60), best=1 + random.random(60)), "ours", ["best"])
    assert "corrected" not in told


def test_few_users_are_not_tested():
    assert verdict(Fixed([0, 1], ours=[1, 1], best=[0, 0]), "ours", ["best"]).endswith("too few users for a test.")


@pytest.mark.parametrize("seed", range(3))
def test_no_difference_is_not_called_one(seed):
    random = np.random.default_rng(seed)
    told = verdict(Fixed(range(50), ours=random.random(50), best=random.random(50)), "ours", ["best"])
    assert "p <" not in told
    assert "would be seen" in told


def test_in_words_it_says_who_is_surely_beaten_and_who_is_not():
    random = np.random.default_rng(0)
    base, noise = random.random(60), random.normal(0, 0.01, 60)
    fixed = Fixed(range(60), ours=base, low=base - 0.2 + noise, high=base + 0.2 + noise, same=base + noise)
    told = in_words(fixed, "ours", ["low", "high"], does="finds the next film")
    assert told == "Finds the next film better than low, worse than high."
    told = in_words(fixed, "ours", ["low", "same", "high"], does="finds the next film")
    assert told.endswith("better than low, worse than high; no sure difference from same.")
    assert in_words(fixed, "ours", ["same"], does="sorts") == "Sorts neither surely better nor surely worse than same."
    few = Fixed([0, 1], ours=[1, 1], low=[0, 0], best=[0, 0])
    said = in_words(few, "ours", ["low", "best"], does="sorts")
    assert said.startswith("2 users are too few to tell whether it sorts")


@pytest.mark.parametrize(("gain", "said"), [(0.2, "better"), (-0.2, "worse"), (0.0, "no sure difference")])
def test_what_thinking_does_is_said_with_how_to_ask(gain, said):
    random = np.random.default_rng(1)
    base = random.random(60)
    fixed = Fixed(range(60), thought=base + gain + random.normal(0, 0.01, 60), plain=base)
    told = of_thinking(fixed, "thought", "plain")
    assert said in told
    assert ("should come with a thought" in told) == (gain > 0)
    few = of_thinking(Fixed([0, 1], thought=[1, 1], plain=[0, 0]), "thought", "plain")
    assert "cannot be told from so few users (NDCG@10 1.000 with a thought" in few
