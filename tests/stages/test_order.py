"""The place of the target is counted against it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.data import Candidates, History
from thinkrank.errors import ThinkrankError
from thinkrank.stages.order import order_candidates, target_ranks, top_k


@given(st.data())
def test_an_item_with_an_equal_score_stands_before_the_target(data):
    scores = data.draw(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=9))
    target = data.draw(st.integers(0, len(scores) - 1))
    before = sum(score >= scores[target] for item, score in enumerate(scores) if item != target)
    assert target_ranks(np.array([scores], dtype=np.float32), np.array([target])).tolist() == [before + 1]


def test_scoring_everything_alike_gives_the_last_place():
    assert target_ranks(np.zeros((2, 50), dtype=np.float32), np.array([0, 49])).tolist() == [50, 50]


def test_a_target_that_was_left_out_is_behind_every_list():
    scores = np.array([[1, -np.inf, -np.inf]], dtype=np.float32)
    assert target_ranks(scores, np.array([1])).tolist() == [4]


def test_nan_and_unknown_targets_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        target_ranks(np.array([[0, np.nan]], dtype=np.float32), np.array([0]))
    for target in (-1, 2):
        with pytest.raises(ValueError, match="catalogue rows 0 to 1"):
            target_ranks(np.zeros((1, 2), dtype=np.float32), np.array([target]))


def test_an_answer_is_no_wider_than_the_catalogue_and_lists_of_any_width_are_refused():
    ranking = top_k(np.zeros((1, 3), np.float32), [History.of([0])], 10**12)
    assert ranking.items_BK.tolist() == [[1, 2, -1]]
    with pytest.raises(ThinkrankError, match="at most 1,000,000"):
        order_candidates(Candidates(np.zeros((1, 1), np.int32)), np.zeros((1, 1)), 10**12)
