"""A whole is foreseen from parts of it."""

import time

import pytest

from thinkrank.recipes.plan import Plan, straight


@pytest.mark.parametrize(("whole", "sizes"), [(1000, [32, 32, 64, 128]), (100, [32, 32, 64, 100]), (8, [8, 8])])
def test_work_that_grows_in_a_line_is_foreseen_exactly_without_what_is_made_once(whole, sizes, monkeypatch):
    clock, done = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def work(samples):
        done.append(samples)
        clock[0] += 3 + samples / 16 + (100 if len(done) == 1 else 0)

    assert straight(work, whole, seconds=13.0) == pytest.approx(3 + whole / 16)
    assert done == sizes


def test_a_run_without_a_training_says_so():
    assert Plan("3 users, 5 items, 9 examples", {}).told([]).endswith("nothing to train: no training has a step")
