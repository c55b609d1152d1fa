import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.data import Catalogue, Histories, History
from thinkrank.errors import ThinkrankError
from thinkrank.testing import random_lists, widened


def test_lengths_and_mask_say_where_candidates_are():
    lists = random_lists(longest=6)
    assert lists.lengths_L[0] == 6
    assert lists.mask_LN.sum(axis=1).tolist() == lists.lengths_L.tolist()
    assert (lists.items_LN[~lists.mask_LN] == -1).all()


def test_a_subset_keeps_order_names_and_sheds_padding():
    lists = random_lists()
    short = np.flatnonzero(lists.lengths_L <= 3)[::-1]
    part = lists.subset(short)
    assert part.items_LN.shape[1] == lists.lengths_L[short].max()
    for row, index in enumerate(short):
        length = int(lists.lengths_L[index])
        assert part.items_LN[row, :length].tolist() == lists.items_LN[index, :length].tolist()
        assert part.histories[row].items.tolist() == lists.histories[int(index)].items.tolist()
    assert (part.users, part.signals, part.numeric_names) == (lists.users, lists.signals, lists.numeric_names)
    assert np.shares_memory(part.histories[0].items, lists.histories.items_E)


@given(seed=st.integers(0, 50), valid=st.floats(0, 0.4), test=st.floats(0, 0.4))
def test_a_split_has_every_list_once_and_none_before_an_earlier_part(seed, valid, test):
    lists = random_lists(seed)
    split = lists.split(valid, test)
    parts = [split.train, split.valid, split.test]
    wanted, together = np.array([int(valid * 20 + 1e-9), int(test * 20 + 1e-9)]), np.sort(lists.times_L)
    most = np.unique(together, return_counts=True)[1].max()  # a cut moves by half of what is shown at one time
    assert (np.abs(np.cumsum([len(split.test), len(split.valid)]) - np.cumsum(wanted[::-1])) <= most / 2).all()
    ends = np.cumsum([len(split.train), len(split.valid)])
    assert all(together[end - 1] < together[end] for end in ends if 0 < end < len(lists)), "a time is cut in two"
    assert sum(map(len, parts)) == len(lists)
    together = np.concatenate([part.times_L for part in parts])
    assert (np.diff(together) >= 0).all()
    assert sorted(together) == sorted(lists.times_L)


def test_impossible_shares_are_refused():
    for shares in ((0.5, 0.5), (-0.1, 0.1)):
        with pytest.raises(ThinkrankError, match="leave some to train"):
            random_lists().split(*shares)


def test_a_split_can_be_written_down():
    manifest = random_lists().split(0.2, 0.2).manifest()
    assert json.loads(json.dumps(manifest))["parts"]["valid"]["lists"] == 4


def test_the_fingerprint_ignores_padding_and_names_and_sees_every_value():
    lists = random_lists()
    same = replace(widened(lists, 3), name="other", notices=("x",))
    assert same.fingerprint == lists.fingerprint
    changed = [
        {"feedback_LNS": lists.feedback_LNS * 2},
        {"times_L": lists.times_L + 1},
        {"users_L": (lists.users_L + 1) % 3},
        {"numeric_LNF": lists.numeric_LNF * 2},
        {"categorical_names": ("sort",)},
        {"context_LF": lists.context_LF + 1},
        {"histories": Histories.of([History.of([1])] * len(lists))},
        {"items_LN": np.where(lists.mask_LN, (lists.items_LN + 1) % 12, -1).astype(np.int32)},
    ]
    assert len({replace(lists, **change).fingerprint for change in changed} | {lists.fingerprint}) == 9


def test_the_description_is_json_and_counts_right():
    lists = random_lists()
    description = json.loads(json.dumps(lists.describe()))
    clicks_LN = lists.feedback("click")
    assert description["slots"] == lists.lengths_L.sum()
    assert description["signal click"]["slots"] == (clicks_LN > 0).sum()
    assert description["signal click"]["lists_without"] == (clicks_LN.sum(axis=1) == 0).sum()
    assert description["history_length"]["max"] == max(map(len, lists.histories))


def test_no_lists_are_a_data_set_too():
    none = random_lists().subset(np.zeros(0, np.int64))
    assert len(none) == 0
    assert none.describe()["length"] is None
    assert none.fingerprint != random_lists().fingerprint


def test_a_signal_is_asked_for_by_name():
    lists = random_lists()
    assert np.array_equal(lists.feedback(), lists.feedback_LNS[:, :, 0])
    assert np.array_equal(lists.feedback("like"), lists.feedback_LNS[:, :, 1])
    with pytest.raises(ThinkrankError, match="no signal 'likes'; nearest: like"):
        lists.feedback("likes")


def change(array: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    changed = array.copy()
    changed[place] = value
    return changed


FAULTS = {
    "list 0 .* not in the catalogue": lambda x: {"items_LN": change(x.items_LN, (0, 0), 99)},
    "list 0 .* gap": lambda x: {"items_LN": change(x.items_LN, (0, 1), -1)},
    "list 0 .* twice": lambda x: {"items_LN": change(x.items_LN, (0, 1), x.items_LN[0, 0])},
    "list 2 .* no candidate": lambda x: {"items_LN": change(x.items_LN, (2,), -1)},
    "list 3 .* user": lambda x: {"users_L": change(x.users_L, (3,), 3)},
    "list 4 .* 1970": lambda x: {"times_L": change(x.times_L, (4,), -1)},
    "feedback that is negative": lambda x: {"feedback_LNS": change(x.feedback_LNS, (0, 0, 0), -1)},
    "feedback that is": lambda x: {"feedback_LNS": change(x.feedback_LNS, (0, 0, 0), np.nan)},
    "numeric feature that is not finite": lambda x: {"numeric_LNF": change(x.numeric_LNF, (0, 0, 0), np.inf)},
    "context feature": lambda x: {"context_LF": change(x.context_LF, (0, 0), np.nan)},
    "stands for nothing": lambda x: {"categorical_LNC": change(x.categorical_LNC, (0, 0, 0), 4)},
    "numeric_LNF has shape": lambda x: {"numeric_names": ("price",)},
    "differ in number": lambda x: {"categorical_values": ()},
    "occurs twice": lambda x: {"signals": ("click", "click")},
    "19 histories for 20": lambda x: {"histories": x.histories[:19]},
    "history holds an item": lambda x: {"histories": Histories.of([History.of([99])] * 20)},
    "goes on after": lambda x: {
        "histories": Histories.of([History(np.array([1], np.int32), np.array([10**6]))] * 20),
    },
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_fault_is_named(message):
    lists = random_lists()
    with pytest.raises(ThinkrankError, match=message) as caught:
        replace(lists, **FAULTS[message](lists))
    assert str(caught.value).startswith("tiny: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("array", ["feedback_LNS", "numeric_LNF", "categorical_LNC"])
def test_padding_must_be_empty(array):
    lists = random_lists()
    row = int(lists.lengths_L.argmin())
    with pytest.raises(ThinkrankError, match=f"list {row} .* no candidate"):
        replace(lists, **{array: change(getattr(lists, array), (row, -1, 0), 1)})


def test_a_catalogue_may_be_larger_than_what_is_shown():
    lists = random_lists()
    frame = lists.catalogue.frame
    extended = Catalogue(frame.vstack(frame.with_columns(item="item" + frame["item"])))
    assert len(replace(lists, catalogue=extended).catalogue) == 24
