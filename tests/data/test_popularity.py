import math

import numpy as np
import polars as pl
import pytest

from thinkrank.data import Catalogue, Dataset, split_dataset
from thinkrank.data.popularity import LEVELS, TrainCounts, log_popularity, ways_to_say, with_popularity


def dataset(**columns):
    """Ten users: all choose a and one of b, which training sees, and then one of c and d, which are held out."""
    events = [
        (f"u{user}", item, 100 * place + user)
        for user in range(10)
        for place, item in enumerate(("a", f"b{user % 3}", f"c{user % 2}", f"d{user}"))
    ]
    items = ["a", "b0", "b1", "b2", "c0", "c1", *(f"d{user}" for user in range(10))]
    frame = pl.DataFrame({"item": items, "title": items, **columns})
    return Dataset("made", pl.DataFrame(events, schema=["user", "item", "timestamp"], orient="row"), Catalogue(frame))


def test_counts_are_those_of_the_train_part_alone():
    split = split_dataset(dataset(), "leave-last-out")
    assert split.train_counts.tolist() == [10, 4, 3, 3] + [0] * 12


@pytest.mark.parametrize(("kind", "changes"), [("leave-last-out", 0), ("temporal", 16)])
def test_a_training_event_is_left_out_of_its_own_count_and_word_as_if_it_had_not_been(kind, changes):
    split = split_dataset(dataset(), kind, fractions=(1.0, 0.0, 0.0))  # the fractions of the temporal one
    data, counts, told = split.dataset, TrainCounts(split), with_popularity(split).frame
    trained = np.concatenate([np.arange(start, end) for start, end in split.train_ranges])
    changed = 0
    for position in range(len(data.items_E)):
        refitted_I = np.bincount(data.items_E[trained[trained != position]], minlength=len(data.catalogue))
        np.testing.assert_array_equal(counts.without(position), refitted_I)
        item, is_trained = int(data.items_E[position]), position in trained
        assert counts.own(position) == (item if is_trained else None)
        if is_trained:
            words = ways_to_say(log_popularity(refitted_I)[item])
            assert told["popularity_without_own"][item] == words[0]
            changed += words[0] != told["popularity"][item]
    assert changed == changes  # where all is trained on, b1 and b2 are not "fairly popular" with two events left
    assert counts.own(len(data.items_E)) is None


def test_words_follow_the_count_against_the_mean():
    values = log_popularity(np.array([0, 3, 9, 99]))
    np.testing.assert_allclose(values, [math.log(n / 28.75) for n in (1, 4, 10, 100)])
    assert [ways_to_say(value)[0] for value in values] == ["rarely chosen", "rarely chosen", "rarely chosen", "popular"]
    assert [ways_to_say(least) for least, _ in LEVELS] == [ways for _, ways in LEVELS]
    assert log_popularity(np.array([], dtype=np.int64)).shape == (0,)


def test_a_catalogue_tells_how_popular_its_items_are_by_the_train_part_alone():
    split = split_dataset(dataset(), "leave-last-out")
    told = with_popularity(split).frame["popularity"].to_list()
    assert told == ["popular", *["fairly popular"] * 3, *["not often chosen"] * 12]
    assert with_popularity(split).ids == split.dataset.catalogue.ids
    own = split_dataset(dataset(popularity=["x"] * 16), "leave-last-out")
    assert with_popularity(own).frame.equals(with_popularity(split).frame)
    assert own.dataset.catalogue.frame["popularity"].to_list() == ["x"] * 16
