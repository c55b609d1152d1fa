"""What stages accept, and what they refuse in one line."""

import numpy as np
import polars as pl
import pytest

from thinkrank.data import Candidates, Catalogue
from thinkrank.errors import ThinkrankError
from thinkrank.stages import checked_candidates, checked_requests


def catalogue(ids):
    return Catalogue(pl.DataFrame({"item": list(ids), "title": list(ids)}))


OURS, THEIRS = catalogue("abc"), catalogue("cxba")


def test_rows_of_another_catalogue_become_ours_by_id():
    offered = Candidates(np.array([[0, 2, -1], [3, -1, -1]], dtype=np.int32), THEIRS)
    mapped = checked_candidates(offered, OURS, 2)
    assert mapped.items_BN.tolist() == [[2, 1, -1], [0, -1, -1]]
    assert mapped.catalogue is OURS


def test_a_catalogue_with_the_same_ids_is_ours():
    offered = Candidates(np.array([[0, 2]], dtype=np.int32), catalogue("abc"))
    assert checked_candidates(offered, OURS, 1) is offered


@pytest.mark.parametrize(
    ("offered", "message"),
    [
        (Candidates(np.array([[0, 1]], dtype=np.int32), THEIRS), "no item has the id 'x'"),
        (Candidates(np.array([[0, 4]], dtype=np.int32), THEIRS), "list 0 holds item 4"),
        ([["a"], ["b"]], "2 candidate lists for 1 requests"),
        ([["a", "a"]], "list 0 holds item 0 twice"),
        ([["x"]], "no item has the id 'x'"),
        ([[3]], "list 0 holds item 3"),
    ],
)
def test_what_cannot_be_candidates_is_refused(offered, message):
    with pytest.raises(ThinkrankError, match=message):
        checked_candidates(offered, OURS, 1)


def test_requests_are_of_items_in_the_catalogue():
    assert checked_requests([["a", "c"], [1]], OURS).histories[0].items.tolist() == [0, 2]
    with pytest.raises(ThinkrankError, match="history 1 holds item 3"):
        checked_requests([[0], [3]], OURS)
    with pytest.raises(ThinkrankError, match="no item has the id 'x'"):
        checked_requests([["x"]], OURS)
