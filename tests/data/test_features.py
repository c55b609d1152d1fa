"""What was known at display time, against a system that really counts along."""

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.data import Catalogue, FeatureState, Histories, with_running_features
from thinkrank.data.features import RUNNING_NAMES, histories_before
from thinkrank.errors import ThinkrankError
from thinkrank.testing import random_lists, widened


def counted_along(lists, known_L):
    """Play the log second by second: first show, then learn."""
    shown, taken, shown_to = defaultdict(int), defaultdict(int), defaultdict(int)
    expected = np.zeros((*lists.items_LN.shape, 7))
    for now in range(int(max(lists.times_L.max(), known_L.max())) + 1):
        for index in np.flatnonzero(lists.times_L == now):
            events = lists.histories[int(index)].items.tolist()[::-1]
            candidates = lists.items_LN[index, : lists.lengths_L[index]].tolist()
            met = [item for item in events if item in candidates]
            for slot, item in enumerate(candidates):
                lately = 1 / (1 + events.index(item)) if item in events else 0
                places = slot - candidates.index(met[0]) if met else 0
                times = (shown[item], taken[item], shown_to[lists.users_L[index], item], events.count(item))
                expected[index, slot] = [
                    *np.log1p(times[:2]),
                    (times[1] + 1) / (times[0] + 20),
                    *np.log1p(times[2:]),
                    lately,
                    math.copysign(math.log1p(abs(places)), places),
                ]
        for index in np.flatnonzero(known_L == now):
            for slot, item in enumerate(lists.items_LN[index].tolist()):
                if item >= 0:
                    shown[item] += 1
                    shown_to[lists.users_L[index], item] += 1
                    taken[item] += lists.feedback_LNS[index, slot, 0] > 0
    return expected


@given(seed=st.integers(0, 30), delay=st.integers(0, 40), grades=st.integers(1, 3))
def test_running_features_are_what_a_counting_system_knows(seed, delay, grades):
    lists = random_lists(seed, grades=grades)
    known_L = lists.times_L + np.random.default_rng(seed).integers(0, delay + 1, len(lists))
    with_features = with_running_features(lists, known_L=known_L)
    assert with_features.numeric_names == (*lists.numeric_names, *RUNNING_NAMES)
    np.testing.assert_allclose(with_features.numeric_LNF[:, :, 2:], counted_along(lists, known_L), rtol=1e-5)
    assert np.array_equal(with_features.numeric_LNF[:, :, :2], lists.numeric_LNF)


def test_later_lists_change_nothing():
    lists = random_lists(num_lists=30)
    cut = int(np.median(lists.times_L))
    before = lists.subset(np.flatnonzero(lists.times_L <= cut))
    late = np.flatnonzero(lists.times_L > cut)
    feedback = lists.feedback_LNS.copy()
    feedback[late] = lists.mask_LN[late][:, :, None]
    changed = with_running_features(replace(lists, feedback_LNS=feedback))
    kept = changed.subset(np.flatnonzero(lists.times_L <= cut))
    assert np.array_equal(kept.numeric_LNF, with_running_features(before).numeric_LNF)


def test_padding_changes_nothing():
    lists = random_lists(3)
    wide = with_running_features(widened(lists, 4))
    assert np.array_equal(wide.numeric_LNF[:, :6], with_running_features(lists).numeric_LNF)
    assert not wide.numeric_LNF[:, 6:].any()


def test_another_signal_can_count():
    lists = random_lists(1)
    swapped = replace(lists, signals=("like", "click"))
    assert not np.array_equal(
        with_running_features(lists, signal="like").numeric_LNF, with_running_features(lists).numeric_LNF
    )
    assert np.array_equal(
        with_running_features(swapped, signal="click").numeric_LNF,
        with_running_features(lists, signal="like").numeric_LNF,
    )


@given(
    events=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 20)), max_size=30),
    lists=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 21)), max_size=8),
)
def test_a_history_is_what_the_user_did_in_earlier_seconds(events, lists):
    def columns(rows, width):
        return np.array(rows, dtype=np.int64).reshape(-1, width).T

    users_E, items_E, times_E = columns(events, 3)
    histories = histories_before(users_E, items_E, times_E, *columns(lists, 2))
    for (user, time), history in zip(lists, histories, strict=True):
        mine = sorted((event for event in events if event[0] == user and event[2] < time), key=lambda event: event[2])
        assert history.items.tolist() == [item for _, item, _ in mine]
        assert history.times.tolist() == [then for _, _, then in mine]


def test_only_the_newest_events_count_as_seen(monkeypatch):
    monkeypatch.setattr("thinkrank.data.features.NEWEST", 2)
    lists = random_lists(2, num_lists=40)
    recent = with_running_features(lists).numeric_LNF[:, :, -2]
    assert set(np.unique(recent)) <= {0, 0.5, 1}


def test_blocks_of_lists_are_joined(monkeypatch):
    lists = random_lists(5)
    whole = with_running_features(lists).numeric_LNF
    monkeypatch.setattr("thinkrank.data.features._LISTS_AT_ONCE", 3)
    assert np.array_equal(with_running_features(lists).numeric_LNF, whole)
    assert len(with_running_features(lists.subset(np.zeros(0, np.int64)))) == 0


@pytest.mark.parametrize("signal", ["nothing"])
def test_an_unknown_signal_is_refused(signal):
    with pytest.raises(ValueError, match="no signal"):
        with_running_features(random_lists(), signal=signal)


def replayed(lists, known_L, state, *, ahead: bool):
    """Ask second by second, as a system at work does; ahead: everything is taken in before the first second."""
    columns_LNV = np.zeros((*lists.items_LN.shape, len(RUNNING_NAMES)), dtype=np.float32)
    if ahead:
        state.update(lists, known_L=known_L)
    for now in np.unique(lists.times_L):
        indices = np.flatnonzero(lists.times_L == now)
        some = lists.subset(indices)
        answer = state.features(some.requests, some.candidates)
        assert answer.numeric_names == (*lists.numeric_names, *RUNNING_NAMES)
        columns_LNV[indices, : answer.numeric_BNF.shape[1]] = answer.numeric_BNF[:, :, -len(RUNNING_NAMES) :]
        if not ahead:
            state.update(some, known_L=known_L[indices])
    return columns_LNV


@given(
    seed=st.integers(0, 30),
    delay=st.integers(0, 40),
    grades=st.integers(1, 2),
    seconds=st.integers(1, 30),
    ahead=st.booleans(),
)
def test_a_log_that_is_replayed_gives_the_columns_of_the_whole_log(seed, delay, grades, seconds, ahead):
    lists = random_lists(seed, num_lists=40, grades=grades)
    random = np.random.default_rng(seed)
    lists = replace(lists, times_L=random.integers(100, 100 + seconds, len(lists)))  # of few seconds, so many tie
    known_L = lists.times_L + random.integers(0, delay + 1, len(lists))
    expected = with_running_features(lists, known_L=known_L).numeric_LNF[:, :, -len(RUNNING_NAMES) :]
    np.testing.assert_array_equal(replayed(lists, known_L, FeatureState(), ahead=ahead), expected)


def test_one_question_may_span_many_seconds_in_any_order():
    lists = random_lists(4, num_lists=40)
    state = FeatureState(signal="like").update(lists)
    answer = state.features(lists.requests, lists.candidates)
    np.testing.assert_array_equal(answer.numeric_BNF, with_running_features(lists, signal="like").numeric_LNF)
    assert answer.categorical_names == lists.categorical_names


def test_events_count_as_lists_do():
    lists = random_lists(4, num_lists=40)
    rows, slots = np.nonzero(lists.mask_LN)
    events = pl.DataFrame(
        {
            "time": lists.times_L[rows],
            "user": [lists.users[user] for user in lists.users_L[rows]],
            "item": [lists.catalogue.ids[item] for item in lists.items_LN[rows, slots]],
            "taken": lists.feedback()[rows, slots] > 0,
            "page": 1,
        }
    )
    answers = [FeatureState().update(of).features(lists.requests, lists.candidates) for of in (events, lists)]
    np.testing.assert_array_equal(answers[0].numeric_BNF, answers[1].numeric_BNF)
    with pytest.raises(ThinkrankError, match="events have no column user, taken"):
        FeatureState().update(events.drop("user", "taken"))


def test_what_comes_too_late_counts_from_when_it_comes():
    lists = random_lists(4, num_lists=1)
    state = FeatureState(lists.catalogue)
    asked = replace(lists.requests, times_B=np.array([1000]))
    assert not state.features(asked, lists.candidates).numeric_BNF[:, :, 2].any()
    state.update(lists)  # shown long before second 1000, taken in after it
    assert (state.features(asked, lists.candidates).numeric_BNF[:, :, 2] == np.log1p(np.float32(1))).all()
    with pytest.raises(ThinkrankError, match="second 999 comes after one of second 1000"):
        state.features(replace(asked, times_B=np.array([999])), lists.candidates)


def test_a_live_request_needs_no_time_and_no_user():
    lists = random_lists(4, num_lists=40)
    catalogue = lists.catalogue
    state = FeatureState(catalogue).update(lists)
    answer = state.features([["i01", "i03", "i01"]], [["i01", "i02"]])
    shown = [(lists.items_LN == row).sum() for row in (1, 2)]
    np.testing.assert_allclose(answer.numeric_BNF[0, :, 0], np.log1p(shown), rtol=1e-6)
    np.testing.assert_allclose(answer.numeric_BNF[0, :, 3:6], [[0, np.log1p(2), 1], [0, 0, 0]], rtol=1e-6)
    with pytest.raises(ThinkrankError, match="give one to FeatureState"):
        FeatureState().features([[1]], [[1, 2]])
    with pytest.raises(ThinkrankError, match="2 candidate lists for 1 requests"):
        state.features([[1]], [[1], [2]])


def test_items_are_known_by_their_ids_whatever_rows_they_have():
    lists = random_lists(4, num_lists=40)
    last = len(lists.catalogue) - 1
    turned = replace(
        lists,
        catalogue=Catalogue(lists.catalogue.frame.reverse()),
        items_LN=np.where(lists.mask_LN, last - lists.items_LN, -1).astype(np.int32),
        histories=Histories.of(replace(history, items=last - history.items) for history in lists.histories),
    )
    state = FeatureState().update(lists)
    answer = state.features(turned.requests, turned.candidates)
    np.testing.assert_array_equal(answer.numeric_BNF, with_running_features(lists).numeric_LNF)
