"""Whoever asks is understood or refused in one line, and shows nothing of what came next."""

from dataclasses import fields

import numpy as np
import polars as pl
import pytest

from thinkrank.data import Candidates, Catalogue, Histories, History, Requests
from thinkrank.errors import ThinkrankError

CATALOGUE = Catalogue(pl.DataFrame({"item": ["a", "b", "c"], "title": ["A", "B", "C"]}))


def rows(requests: Requests) -> list[list[int]]:
    return [history.items.tolist() for history in requests.histories]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([History.of([0, 2])], [[0, 2]]),
        (History.of([1]), [[1]]),
        ([["a", "c"], []], [[0, 2], []]),
        ([[0, 2], (1,)], [[0, 2], [1]]),
        (np.array([[0, 2], [1, 1]]), [[0, 2], [1, 1]]),
        ([np.array([2], dtype=np.int64)], [[2]]),
        (Histories.of([History.of([2, 1]), History.of([])]), [[2, 1], []]),
        ([], []),
    ],
)
def test_histories_ids_and_rows_are_accepted(asked, expected):
    assert rows(Requests.of(asked, CATALOGUE)) == expected


def test_requests_pass_through():
    requests = Requests([History.of([1])], users=("ann",))
    assert Requests.of(requests) is requests


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("abc", "cannot be made of str"),
        (3, "cannot be made of int"),
        ([[0.5]], "request 0 holds 0.5"),
        ([[True]], "request 0 holds True"),
        ([["a"], ["x"]], "no item has the id 'x'"),
        (["a"], "request 0 is 'a'"),
        ([None], "request 0 is None"),
        ({"ann": [1]}, "cannot be made of dict"),
    ],
)
def test_what_is_neither_is_refused_in_one_line(asked, message):
    with pytest.raises(ThinkrankError, match=message) as error:
        Requests.of(asked, CATALOGUE)
    assert "\n" not in str(error.value)


def test_ids_need_a_catalogue():
    with pytest.raises(ThinkrankError, match="request 0 holds 'a'"):
        Requests.of([["a"]])


@pytest.mark.parametrize(
    "more",
    [
        {"users": ("ann", "bob")},
        {"times_B": np.array([1, 2])},
        {"context_BX": np.zeros((2, 1), np.float32), "context_names": ("hour",)},
        {"context_BX": np.zeros((1, 1), np.float32)},
    ],
)
def test_parts_of_different_numbers_are_refused(more):
    with pytest.raises(ThinkrankError, match="requests: "):
        Requests([History.of([1])], **more)


THREE = Requests(
    [History.of([row]) for row in range(3)],
    users=("ann", "bob", "cy"),
    times_B=np.array([5, 6, 7]),
    context_BX=np.arange(3, dtype=np.float32)[:, None],
    context_names=("hour",),
    ids=("x", "y", "z"),
)


def test_a_batch_keeps_what_belongs_to_its_requests():
    (first, two), (second, one) = THREE.batches(2)
    assert (first, second) == (slice(0, 2), slice(2, 4))
    assert (two.users, two.ids) == (("ann", "bob"), ("x", "y"))
    assert rows(one) == [[2]]
    assert one.times_B.tolist() == [7]
    assert one.context_BX.tolist() == [[2.0]]


def test_requests_and_candidates_are_picked_by_number_with_all_that_is_theirs():
    requests = THREE.take(np.array([2, 0]))
    assert (rows(requests), requests.users, requests.ids) == ([[2], [0]], ("cy", "ann"), ("z", "x"))
    assert (requests.times_B.tolist(), requests.context_BX.tolist()) == ([7, 5], [[2.0], [0.0]])
    offered = Candidates(
        np.array([[0, 1], [1, 2], [2, -1]], np.int32),
        numeric_BNF=np.arange(6, dtype=np.float32).reshape(3, 2, 1),
        numeric_names=("price",),
        categorical_BNC=np.arange(6, dtype=np.int32).reshape(3, 2, 1),
        categorical_names=("kind",),
        categorical_values=(tuple("abcde"),),
    )
    for found in (offered.take(np.array([2, 0])), Candidates.joined([offered[2:], offered[:1]])):
        assert found.items_BN.tolist() == [[2, -1], [0, 1]]
        assert found.numeric_BNF[..., 0].tolist() == found.categorical_BNC[..., 0].tolist() == [[4, 5], [0, 1]]
        assert found.categorical_values == offered.categorical_values
    plain = Candidates.joined([Candidates(np.array([[1]], np.int32))] * 2)
    assert (plain.items_BN.tolist(), plain.numeric_BNF) == ([[1], [1]], None)


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        ([[2, 0], [1]], [[2, 0], [1, -1]]),
        ([["c"], ["a", "b"]], [[2, -1], [0, 1]]),
        (np.array([[1, -1]]), [[1, -1]]),
        ([], []),
    ],
)
def test_candidates_of_rows_and_ids_are_accepted(offered, expected):
    assert Candidates.of(offered, CATALOGUE).items_BN.tolist() == expected


@pytest.mark.parametrize(
    ("offered", "message"),
    [("abc", "cannot be made of str"), ([1, 2], "candidate list 0 is 1"), ([["x"]], "no item has the id")],
)
def test_candidates_of_anything_else_are_refused_in_one_line(offered, message):
    with pytest.raises(ThinkrankError, match=message) as error:
        Candidates.of(offered, CATALOGUE)
    assert "\n" not in str(error.value)


def test_features_without_a_name_and_names_without_features_are_refused():
    items = np.array([[0, 1]], dtype=np.int32)
    with pytest.raises(ThinkrankError, match="numeric features of shape"):
        Candidates(items, numeric_BNF=np.zeros((1, 2, 1), np.float32))
    with pytest.raises(ThinkrankError, match="categorical features of shape None"):
        Candidates(items, categorical_names=("kind",))


def test_neither_type_has_a_place_for_feedback():
    names = {field.name for kind in (Requests, Candidates) for field in fields(kind)}
    assert not [name for name in names if any(word in name for word in ("feedback", "target", "label", "click"))]


def test_histories_are_put_into_another_catalogues_rows_by_id(caplog):
    theirs = Catalogue(pl.DataFrame({"item": ["a", "b", "c", "d"], "title": list("abcd")}))
    ours = Catalogue(pl.DataFrame({"item": ["d", "b", "a"], "title": list("dba")}))
    days = History(
        np.array([0, 2, 1, 3], np.int32), np.array([5, 5, 5, 9]), None, np.array([0, 1, 2, 0], np.int32), theirs
    )
    unnamed = History.of([0, 1])
    with caplog.at_level("WARNING", "thinkrank"):
        moved = Requests([days, unnamed], ("u", "v")).within(ours)
    past, same = moved.histories
    assert [ours.ids[row] for row in past.items] == ["a", "b", "d"]
    assert (past.times.tolist(), past.tied.tolist()) == ([5, 5, 9], [0, 1, 0])
    assert same is unnamed
    assert "left 1 of 4 events out of the histories" in caplog.text
    assert "'c'" in caplog.text
    assert moved.within(ours) is moved
    packed = Requests(Histories.of([days])).within(ours)
    assert packed.histories[0].items.tolist() == past.items.tolist()


def test_equal_rows_of_another_catalogue_are_left_as_they_are():
    first, second = (Catalogue(pl.DataFrame({"item": ["a", "b"], "title": ["A", "B"]})) for _ in range(2))
    requests = Requests([History(np.array([1], np.int32), catalogue=first)])
    assert requests.within(second) is requests
