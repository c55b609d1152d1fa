"""Marks of history items: steps of ratings and of gaps, and that they do not change when a history goes on."""

import numpy as np
import pytest

from thinkrank.data import History
from thinkrank.prompts.marks import marks_of, num_marks

PAST = History(
    np.array([4, 2, 9, 7], np.int32),
    times=np.array([0, 30, 7200, 50 * 86_400], np.int64),
    ratings=np.array([5.0, np.nan, 1.0, 3.5], np.float32),
)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((), [0, 0, 0, 0]),
        (("rating",), [5, 0, 1, 4]),
        (("gap",), [0, 1, 3, 5]),
        (("rating", "gap"), [30, 1, 9, 29]),
    ],
)
def test_a_mark_counts_the_steps_of_what_is_told(kinds, expected):
    assert marks_of(PAST, kinds).tolist() == expected
    assert max(expected) < num_marks(kinds)


def test_marks_stay_when_a_history_goes_on():
    whole = marks_of(PAST, ("rating", "gap"))
    assert marks_of(PAST[:3], ("rating", "gap")).tolist() == whole[:3].tolist()


def test_nothing_known_is_no_mark():
    assert marks_of(History.of([3, 1]), ("rating", "gap")).tolist() == [0, 0]
