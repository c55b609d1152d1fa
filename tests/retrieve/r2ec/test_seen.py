"""What was taken before does not compete, whatever competes."""

import numpy as np
import pytest
import torch

from thinkrank.retrieve.r2ec.seen import Seen

TAKEN = [np.array([3, 0, 3]), np.array([], np.int32), np.array([6])]


@pytest.mark.parametrize("items", [None, [5, 3, 3, 0, 6], [1], []])
def test_the_mask_is_what_each_row_took_among_what_competes(items):
    competing = range(7) if items is None else items
    wanted = [[item in taken.tolist() for item in competing] for taken in TAKEN]
    got = Seen.of(TAKEN).among(None if items is None else torch.tensor(items, dtype=torch.long), 7)
    assert got.tolist() == wanted
    assert not Seen.nothing(3).among(None, 7).any()


def test_memory_grows_with_what_competes_and_not_with_the_catalogue():
    taken = [np.array([9_999_999, 5])] * 4000
    mask = Seen.of(taken).among(torch.tensor([5, 6]), 10_000_000)
    assert mask.tolist() == [[True, False]] * 4000  # of all items it would have 40 GB
