"""One process is a world too."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.distributed.joining import joined
from thinkrank.distributed.world import SINGLE, World
from thinkrank.errors import ThinkrankError


@given(n=st.integers(0, 50), size=st.integers(1, 8))
def test_shares_cover_everything_once_and_differ_by_at_most_one(n, size):
    shares = [World(rank, size).share(n) for rank in range(size)]
    assert [i for share in shares for i in range(n)[share]] == list(range(n))
    lengths = [share.stop - share.start for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_one_process_keeps_what_it_has():
    tensor = torch.tensor([1.0, 2.0])
    SINGLE.sum_([tensor])
    assert tensor.tolist() == [1.0, 2.0]
    assert SINGLE.gather(tensor) is tensor
    assert SINGLE.is_first
    assert not World(1, 2).is_first


@pytest.mark.parametrize("size", ["two", "-1", "1.5"])
def test_a_size_that_is_no_number_is_refused_with_the_way_out(size, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(ThinkrankError, match=f"WORLD_SIZE is {size!r}, not a number.*unset WORLD_SIZE"), joined("cpu"):
        pass
