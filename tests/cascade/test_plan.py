"""What an answer leaves out, and in which order."""

import pytest

from thinkrank.cascade import Budget, StageCost
from thinkrank.cascade.options import STAGES
from thinkrank.cascade.plan import Costs, Plan

FULL = Plan(STAGES, frozenset(STAGES), samples=3, ranked=40)
ORDER = [
    ("2 of 3 samples",),
    ("1 of 3 samples",),
    ("1 of 3 samples", "re-ranker without thinking"),
    ("1 of 3 samples", "re-ranker without thinking", "ranker without reasons"),
    ("1 of 3 samples", "re-ranker without thinking", "ranker without reasons", "ranker reads 20 of 40 candidates"),
    ("1 of 3 samples", "re-ranker without thinking", "ranker without reasons", "ranker reads 10 of 40 candidates"),
    ("1 of 3 samples", "ranker without reasons", "ranker reads 10 of 40 candidates", "no re-ranker"),
    ("1 of 3 samples", "no re-ranker", "no ranker"),
    ("no re-ranker", "no ranker", "retriever without a thought"),
]
"""What is said after each step, from the least that is left out to the most."""


def test_answers_are_shortened_in_the_stated_order_and_say_so():
    assert [FULL.left_out(plan) for plan in FULL.shorter(STAGES)] == ORDER
    assert FULL.left_out(FULL) == ()


def test_what_has_answered_already_is_not_shortened():
    for plan in FULL.shorter(("rank", "rerank")):
        assert "retrieve" in plan.thinks
    assert [*FULL.shorter(())] == []


COSTS = {
    "retrieve": StageCost(milliseconds=5, thinking_milliseconds=100, tokens=30),
    "rank": StageCost(milliseconds=1, thinking_milliseconds=10, tokens=20),
    "rerank": StageCost(milliseconds=2, thinking_milliseconds=4),
}


@pytest.mark.parametrize(
    ("budget", "left_out"),
    [
        (Budget(), ()),
        (Budget(milliseconds=1512), ()),  # 3 * 100 + 40 * 3 * 10 + 3 * 4
        (Budget(milliseconds=1511), ORDER[0]),
        (Budget(milliseconds=142), ORDER[3]),  # 100 + 40 * 1 + 2
        (Budget(milliseconds=141), ORDER[4]),
        (Budget(milliseconds=100), ORDER[7]),
        (Budget(milliseconds=1), ORDER[8]),
        (Budget(tokens=2490), ()),  # 3 * 30 + 40 * 3 * 20
        (Budget(tokens=2489), ORDER[0]),
        (Budget(tokens=829), ORDER[3]),
        (Budget(tokens=0), ORDER[8]),
    ],
)
def test_the_first_plan_that_fits_what_stages_take_is_kept(budget, left_out):
    assert FULL.left_out(FULL.within(budget, Costs(COSTS), STAGES)) == left_out


def test_costs_are_means_that_lean_to_the_newest_and_unknown_ones_are_nothing():
    costs = Costs()
    assert costs.of(FULL, STAGES) == (0.0, 0.0)
    assert FULL.within(Budget(milliseconds=1), costs, STAGES) == FULL
    costs.measured("retrieve", 4, 0.08, 240, thoughts=2)
    assert costs.known["retrieve"] == StageCost(thinking_milliseconds=10, tokens=30)
    costs.measured("retrieve", 2, 0.04, 0, thoughts=1)
    assert costs.known["retrieve"].thinking_milliseconds == pytest.approx(12)
    assert costs.known["retrieve"].tokens == pytest.approx(24)
    costs.measured("rank", 0, 5.0, 0, thoughts=0)
    assert "rank" not in costs.known
    costs.measured("rank", 100, 0.2, 0, thoughts=0)
    silent = FULL.without_thought("rank")
    assert costs.of(silent, ("rank",)) == pytest.approx((80, 0))
