"""One answer type for all stages: as a table for people, and as candidates for the next stage."""

import numpy as np
import polars as pl
import pytest

from thinkrank.data import Candidates, Catalogue, History, Requests
from thinkrank.errors import ThinkrankError
from thinkrank.stages import Latent, Ranking, Thought, order_candidates

CATALOGUE = Catalogue(pl.DataFrame({"item": ["a", "b", "c"], "title": ["A", "B", "C"]}))


def thought(text: str) -> Thought:
    nothing = np.zeros(0, np.float32)
    return Thought(text, np.zeros(0, np.int32), nothing, nothing, "closed", 0.0)


def ranking(**more) -> Ranking:
    items = np.array([[2, 0], [1, -1]], dtype=np.int32)
    scores = np.array([[0.5, 0.25], [3.0, -np.inf]], dtype=np.float32)
    return Ranking(items, scores, **more)


def test_a_table_names_items_and_users_as_they_call_them():
    requests = Requests([History.of([]), History.of([])], users=("ann", "bob"))
    table = ranking().table(CATALOGUE, requests)
    assert table.to_dicts() == [
        {"request": 0, "user": "ann", "place": 1, "item": "c", "title": "C", "score": 0.5},
        {"request": 0, "user": "ann", "place": 2, "item": "a", "title": "A", "score": 0.25},
        {"request": 1, "user": "bob", "place": 1, "item": "b", "title": "B", "score": 3.0},
    ]


def test_a_table_shows_what_was_thought_and_where_an_item_stood():
    latent = Latent(
        np.full((2, 2), 2.0, np.float32), np.full((2, 2), 1.0, np.float32), np.array([[3, 0], [0, 0]], np.int32)
    )
    table = ranking(
        columns_BK=np.array([[1, 0], [0, -1]], np.int32),
        latent=latent,
        thoughts=(thought("x"), thought("y")),
        reasons=((thought("r0"), thought("r1")), (thought("r2"),)),
    ).table(CATALOGUE)
    assert table["shown_at"].to_list() == [2, 1, 1]
    assert table["steps"].to_list() == [3, 0, 0]
    assert table["entropy_after"].to_list() == [1.0, 1.0, 1.0]
    assert table["reason"].to_list() == ["r0", "r1", "r2"]
    assert table["thought"].to_list() == ["x", "x", "y"]
    assert "user" not in table.columns


def test_an_answer_becomes_candidates_with_its_score_in_units_of_its_own_list():
    scores = np.array([[9.0, 5.0, 1.0], [4.0, 4.0, -np.inf], [7.0, -np.inf, -np.inf]], np.float32)
    items = np.array([[0, 1, 2], [1, 2, -1], [2, -1, -1]], np.int32)
    offered = Ranking(items, scores).candidates("r2ec")
    assert offered.numeric_names == ("r2ec.score",)
    np.testing.assert_allclose(
        offered.numeric_BNF[:, :, 0], [[1.5**0.5, 0, -(1.5**0.5)], [0, 0, 0], [0, 0, 0]], atol=1e-6
    )
    scaled = Ranking(items, 1000 * scores - 3).candidates("r2ec")
    np.testing.assert_allclose(scaled.numeric_BNF, offered.numeric_BNF, atol=1e-5)


def test_scores_come_back_in_the_order_candidates_were_given():
    candidates = Candidates.of([[2, 0, 1], [1]])
    scores = np.array([[0.1, 0.9, 0.5], [7.0, 0, 0]], np.float32)
    answer = order_candidates(candidates, scores)
    assert answer.items_BK.tolist() == [[0, 1, 2], [1, -1, -1]]
    given = answer.scores_given(3)
    np.testing.assert_array_equal(given[0], scores[0])
    assert given[1].tolist() == [7.0, -np.inf, -np.inf]
    with pytest.raises(ThinkrankError, match="not from candidates"):
        ranking().scores_given(3)


def test_scores_of_the_whole_catalogue_stand_by_item():
    answer = Ranking(np.array([[2, 0], [1, -1]], np.int32), np.array([[0.9, 0.1], [7.0, -np.inf]], np.float32))
    none = -np.inf
    assert answer.scores_of_all(4).tolist() == [[np.float32(0.1), none, np.float32(0.9), none], [none, 7.0, none, none]]


@pytest.mark.parametrize(("ties", "expected"), [("given", [2, 0, 1]), ("row", [0, 1, 2])])
def test_equal_scores_keep_the_order_given_or_that_of_the_catalogue(ties, expected):
    answer = order_candidates(Candidates.of([[2, 0, 1]]), np.zeros((1, 3), np.float32), ties=ties)
    assert answer.items_BK.tolist() == [expected]


def test_a_candidate_of_score_minus_infinity_still_stands_before_padding():
    answer = order_candidates(Candidates.of([[0, 1], [2]]), np.array([[-np.inf, 1], [-np.inf, 5]], np.float32), 3)
    assert answer.items_BK.tolist() == [[1, 0, -1], [2, -1, -1]]
    assert answer.columns_BK.tolist() == [[1, 0, -1], [0, -1, -1]]


def test_the_first_places_of_an_answer():
    latent = Latent(np.ones((2, 2), np.float32), np.ones((2, 2), np.float32), np.ones((2, 2), np.int32))
    first = ranking(latent=latent, reasons=((thought("r0"), thought("r1")), (thought("r2"),))).first(1)
    assert first.items_BK.tolist() == [[2], [1]]
    assert first.latent.steps_BK.shape == (2, 1)
    assert [len(own) for own in first.reasons] == [1, 1]
