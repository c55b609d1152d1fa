"""What a tool tells of a history: true counts, as if the user had not been in the data."""

import numpy as np
import polars as pl
import pytest

from thinkrank.data import Catalogue, History
from thinkrank.evidence import Crowd
from thinkrank.evidence.told import NAMED, NOTHING, CrowdTeller

NUM_ITEMS = 9
CATALOGUE = Catalogue(pl.DataFrame({"item": list("abcdefghi"), "title": [f"thing {n}" for n in range(NUM_ITEMS)]}))


def teller(histories):
    return CrowdTeller(Crowd(histories, NUM_ITEMS), CATALOGUE)


def test_counts_are_those_of_loops_over_people(histories):
    sets = [set(history.items.tolist()) for history in histories]
    history = History(np.array([5, 2], dtype=np.int32))
    found = teller(histories).chosen(history)
    assert 0 < len(found) <= NAMED
    for one in found:
        assert one.item not in history.items
        assert one.both == sum({one.item, one.beside} <= chosen for chosen in sets)
        assert one.of == sum(one.beside in chosen for chosen in sets)
        assert one.both == max(sum({one.item, row} <= chosen for chosen in sets) for row in history.items.tolist())


def test_a_user_who_is_left_out_is_told_what_data_without_him_tell(histories):
    whole = teller(histories)
    differs = False
    for user, history in enumerate(histories):
        others = [History.of([]) if number == user else one for number, one in enumerate(histories)]
        assert whole.told(history, without=user) == teller(others).told(history)
        differs |= whole.told(history, without=user) != whole.told(history)
    assert differs


@pytest.mark.parametrize("history", [History.of([]), History(np.array([NUM_ITEMS + 1], dtype=np.int32))])
def test_where_nothing_was_counted_that_is_told(histories, history):
    assert teller(histories).told(history) == [NOTHING]
