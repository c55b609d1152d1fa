import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.data import Histories, History

ITEMS = st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=6)


@given(items=ITEMS)
def test_histories_come_back_one_by_one(items):
    histories = Histories.of([History.of(row) for row in items])
    assert [history.items.tolist() for history in histories] == items
    assert histories.lengths_L.tolist() == [len(row) for row in items]
    assert len(histories) == len(items)


@given(items=ITEMS, n=st.integers(0, 8))
def test_the_newest_are_the_ends_filled_up_on_the_right(items, n):
    newest = Histories.of([History.of(row) for row in items]).newest(n)
    for row, filled in zip(items, newest.tolist(), strict=True):
        kept = row[max(0, len(row) - n) :]
        assert filled == kept + [-1] * (n - len(kept))


@given(items=ITEMS.filter(len), data=st.data())
def test_taken_and_packed_histories_are_the_same_ones(items, data):
    histories = Histories.of([History.of(row) for row in items])
    indices = data.draw(st.lists(st.integers(0, len(items) - 1), max_size=8))
    taken = histories.take(np.array(indices, dtype=np.int64))
    assert [history.items.tolist() for history in taken] == [items[index] for index in indices]
    packed = taken.packed()
    assert packed.items_E.tolist() == [item for index in indices for item in items[index]]
    assert [history.items.tolist() for history in packed] == [items[index] for index in indices]


def test_times_are_kept_where_all_have_them():
    timed = History(np.array([1, 2], np.int32), np.array([5, 6]))
    assert Histories.of([timed, timed])[1].times.tolist() == [5, 6]
    assert Histories.of([timed, History.of([3])])[0].times is None


def test_an_index_gives_a_view_and_a_slice_gives_histories():
    histories = Histories.of([History.of([1, 2]), History.of([]), History.of([3])])
    assert np.shares_memory(histories[0].items, histories.items_E)
    assert [len(history) for history in histories[1:]] == [0, 1]
    assert histories[-1].items.tolist() == [3]
    with pytest.raises(IndexError):
        histories[3]
