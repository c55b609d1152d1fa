import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.policy import selection_weights

groups = st.integers(1, 5).flatmap(
    lambda size: st.lists(
        st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=size, max_size=size), min_size=1, max_size=4
    )
)


def places(rows, chosen):
    return [[float(g in chosen(row)) for g in range(len(row))] for row in rows]


def ordered(row):
    return sorted(range(len(row)), key=lambda g: (-row[g], g))


@given(groups)
def test_best_is_the_first_of_the_largest(rows):
    weights = selection_weights(torch.tensor(rows), "best")
    assert weights.tolist() == places(rows, lambda row: {row.index(max(row))})


@given(groups, st.data())
def test_top_k_are_the_k_largest_and_the_first_of_equal_ones(rows, data):
    k = data.draw(st.integers(1, len(rows[0])))
    weights = selection_weights(torch.tensor(rows), "top_k", k=k)
    assert weights.tolist() == places(rows, lambda row: set(ordered(row)[:k]))


def test_the_first_of_equal_ones_wins_in_large_groups_too():
    row = [float(g % 3) for g in range(90)]
    weights = selection_weights(torch.tensor([row]), "top_k", k=40)
    assert weights.tolist() == places([row], lambda row: set(ordered(row)[:40]))


@given(groups)
def test_positive_are_all_that_did_better_than_their_siblings(rows):
    weights = selection_weights(torch.tensor(rows), "positive")
    assert weights.tolist() == places(rows, lambda row: {g for g, value in enumerate(row) if value > 0})


@given(groups, st.sampled_from([-1.0, 0.0, 0.5, 0.75]))
def test_floor_leaves_out_groups_whose_best_is_not_good_enough(rows, floor):
    weights = selection_weights(torch.tensor(rows), "floor", floor=floor)
    expected = places(rows, lambda row: {row.index(max(row))} if max(row) > 0 and max(row) >= floor else set())
    assert weights.tolist() == expected


@pytest.mark.parametrize("k", [0, 3])
def test_k_lies_within_the_group(k):
    with pytest.raises(ValueError, match="between 1 and the 2 rollouts"):
        selection_weights(torch.zeros(1, 2), "top_k", k=k)


def test_an_advantage_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        selection_weights(torch.tensor([[0.0, math.nan]]), "best")
