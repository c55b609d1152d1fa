import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.data import Candidates, History, Requests
from thinkrank.errors import ThinkrankError
from thinkrank.rerank.lists import batches, list_batch, training_batch, training_batches
from thinkrank.testing import random_lists


def test_a_batch_is_the_lists_it_was_asked_for_as_wide_as_the_longest():
    lists = random_lists()
    indices = np.array([7, 3, 7])
    batch = training_batch(lists, indices, signal="like")
    width = lists.lengths_L[indices].max()
    assert batch.items_BN.shape == (3, width)
    assert batch.indices_B.tolist() == [7, 3, 7]
    for row, index in enumerate(indices):
        assert batch.items_BN[row].tolist() == lists.items_LN[index, :width].tolist()
        assert batch.mask_BN[row].sum() == lists.lengths_L[index]
        np.testing.assert_array_equal(batch.numeric_BNF[row], lists.numeric_LNF[index, :width])
        np.testing.assert_array_equal(batch.categorical_BNC[row], lists.categorical_LNC[index, :width])
        np.testing.assert_array_equal(batch.feedback_BN[row], lists.feedback("like")[index, :width])
        np.testing.assert_array_equal(batch.context_BF[row], lists.context_LF[index])
        assert batch.users_B[row] == lists.users_L[index]
        history = batch.history_BH[row]
        assert history[history >= 0].tolist() == lists.histories[int(index)].items.tolist()


@given(size=st.integers(1, 25), seed=st.integers(0, 5) | st.none())
def test_every_list_comes_once(size, seed):
    lists = random_lists()
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    indices = [batch.indices_B.tolist() for batch in training_batches(lists, size, generator)]
    assert [len(part) for part in indices[:-1]] == [size] * (len(indices) - 1)
    together = [index for part in indices for index in part]
    assert sorted(together) == list(range(len(lists)))
    assert (together == sorted(together)) == (seed is None)


def test_only_the_newest_of_a_history_is_kept():
    lists = random_lists()
    for batch in training_batches(lists, 4, max_history=2):
        for row, index in enumerate(batch.indices_B.tolist()):
            kept = [item for item in batch.history_BH[row].tolist() if item >= 0]
            assert kept == lists.histories[index].items[-2:].tolist()
    assert training_batch(lists, np.arange(3), max_history=0).history_BH.shape == (3, 0)


def test_a_batch_can_move():
    batch = training_batch(random_lists(), np.arange(4))
    moved = batch.to("meta")
    assert moved.items_BN.device.type == moved.feedback_BN.device.type == "meta"
    assert len(moved) == 4


def test_an_unknown_signal_is_refused():
    with pytest.raises(ThinkrankError, match="no signal"):
        next(training_batches(random_lists(), 2, signal="nothing"))


@pytest.mark.parametrize("size", [1, 7, 50])
def test_requests_come_once_and_in_order_without_feedback(size):
    lists = random_lists()
    parts = list(batches(lists.requests, lists.candidates, size, max_history=2))
    assert torch.cat([part.indices_B for part in parts]).tolist() == list(range(len(lists)))
    for part in parts:
        expected = training_batch(lists, part.indices_B.numpy(), max_history=2)
        for name in ("items_BN", "numeric_BNF", "categorical_BNC", "context_BF", "history_BH", "mask_BN"):
            assert torch.equal(getattr(part, name), getattr(expected, name)), name
        assert not hasattr(part, "feedback_BN")


def test_what_is_not_known_has_no_columns():
    requests = Requests([History.of([1, 2]), History.of([])])
    batch = list_batch(requests, Candidates(np.array([[3, 4, -1], [5, -1, -1]], np.int32)), slice(None))
    assert batch.items_BN.tolist() == [[3, 4], [5, -1]]
    assert batch.numeric_BNF.shape == batch.categorical_BNC.shape == (2, 2, 0)
    assert batch.context_BF.shape == (2, 0)
    assert batch.history_BH.tolist() == [[1, 2], [-1, -1]]
    assert batch.users_B.tolist() == [-1, -1]


def test_a_batch_shares_no_memory_with_what_it_was_made_of():
    lists = random_lists()
    before = lists.numeric_LNF.copy()
    for batch in (list_batch(lists.requests, lists.candidates, slice(None)), training_batch(lists, np.arange(20))):
        batch.numeric_BNF.fill_(9)
        batch.context_BF.fill_(9)
    assert np.array_equal(lists.numeric_LNF, before)
    assert not (lists.context_LF == 9).any()
