from itertools import pairwise

import pytest

from thinkrank.training import warmup_factor


@pytest.mark.parametrize("decay", ["linear", "constant"])
def test_the_warm_up_warms_up_whatever_follows(decay):
    factors = [warmup_factor(s, warmup_steps=4, total_steps=20, decay=decay) for s in range(5)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_linear_falls_to_the_floor_at_the_last_step():
    factors = [warmup_factor(s, warmup_steps=4, total_steps=20, decay="linear", floor=0.1) for s in range(4, 20)]
    assert factors[0] == 1.0
    assert factors[-1] == pytest.approx(0.1)
    steps = {round(a - b, 9) for a, b in pairwise(factors)}
    assert len(steps) == 1


def test_constant_stays():
    assert warmup_factor(19, warmup_steps=4, total_steps=20, decay="constant") == 1.0


def test_a_run_shorter_than_its_warm_up_only_rises():
    assert warmup_factor(2, warmup_steps=10, total_steps=3, decay="linear") == pytest.approx(3 / 11)


def test_a_time_limit_ends_the_fall_before_the_steps_do():
    def at(step, share):
        return warmup_factor(step, warmup_steps=0, total_steps=101, decay="linear", floor=0.0, time_share=share)

    assert at(10, 0.05) == pytest.approx(0.9)
    assert at(10, 0.5) == pytest.approx(0.5)
    assert at(10, 1.5) == 0.0
