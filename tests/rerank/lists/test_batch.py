import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.errors import ThinkrankError
from thinkrank.rerank.lists import batches, list_batch
from thinkrank.testing import random_lists


def test_a_batch_is_the_lists_it_was_asked_for_as_wide_as_the_longest():
    lists = random_lists()
    indices = np.array([7, 3, 7])
    batch = list_batch(lists, indices, signal="like")
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
    indices = [batch.indices_B.tolist() for batch in batches(lists, size, generator)]
    assert [len(part) for part in indices[:-1]] == [size] * (len(indices) - 1)
    together = [index for part in indices for index in part]
    assert sorted(together) == list(range(len(lists)))
    assert (together == sorted(together)) == (seed is None)


def test_only_the_newest_of_a_history_is_kept():
    lists = random_lists()
    for batch in batches(lists, 4, max_history=2):
        for row, index in enumerate(batch.indices_B.tolist()):
            kept = [item for item in batch.history_BH[row].tolist() if item >= 0]
            assert kept == lists.histories[index].items[-2:].tolist()
    assert list_batch(lists, np.arange(3), max_history=0).history_BH.shape == (3, 0)


def test_a_batch_can_move():
    batch = list_batch(random_lists(), np.arange(4))
    moved = batch.to("meta")
    assert moved.items_BN.device.type == moved.feedback_BN.device.type == "meta"
    assert len(moved) == 4


def test_an_unknown_signal_is_refused():
    with pytest.raises(ThinkrankError, match="no signal"):
        next(batches(random_lists(), 2, signal="nothing"))
