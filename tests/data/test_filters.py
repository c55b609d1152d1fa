from collections import Counter
from dataclasses import replace
from datetime import date

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from thinkrank.data import Catalogue, Dataset, FilterOptions, apply_filters, k_core
from thinkrank.data.describe import remarks
from thinkrank.errors import ThinkrankError

DAY = 24 * 60 * 60
EVENTS = st.lists(
    st.tuples(st.sampled_from("uvwxyz"), st.sampled_from("abcdef"), st.integers(0, 99)), min_size=1, max_size=60
)


def naive_core(events, k):
    while True:
        users, items = Counter(user for user, _, _ in events), Counter(item for _, item, _ in events)
        kept = [event for event in events if users[event[0]] >= k and items[event[1]] >= k]
        if len(kept) == len(events):
            return kept
        events = kept


@given(events=EVENTS, k=st.integers(1, 4))
def test_a_core_equals_the_one_found_by_dropping_in_turn(build_dataset, events, k):
    dataset, expected = build_dataset(events), naive_core(events, k)
    if not expected:
        with pytest.raises(ThinkrankError, match=rf"the filter k-core \(k={k}\) leaves nothing"):
            k_core(dataset, k)
        return
    core = k_core(dataset, k)
    assert sorted(core.interactions.rows()) == sorted(expected)
    assert core.catalogue.ids == sorted({item for _, item, _ in expected})


@pytest.fixture
def rated() -> Dataset:
    catalogue = Catalogue(pl.DataFrame({"item": list("abcd"), "title": ["A", "Bee", "Sea of things", "Dee"]}))
    frame = pl.DataFrame(
        {
            "user": ["u", "u", "u", "v"],
            "item": ["a", "b", "c", "b"],
            "timestamp": [0, DAY, 2 * DAY - 1, 2 * DAY],
            "rating": [5.0, 3.0, None, 4.0],
        }
    )
    return Dataset("rated", frame, catalogue)


@pytest.mark.parametrize(
    ("options", "events", "items"),
    [
        ({}, "abcb", "abcd"),
        ({"min_title_chars": 2}, "bcb", "bcd"),
        ({"max_title_words": 2}, "abb", "abd"),
        ({"min_rating": 4}, "ab", "abcd"),
        ({"since": date(1970, 1, 2)}, "bcb", "abcd"),
        ({"until": "1970-01-02"}, "abc", "abcd"),
        ({"since": "1970-01-02", "until": "1970-01-02"}, "bc", "abcd"),
        ({"seen_items_only": True}, "abcb", "abc"),
        ({"k_core": 1}, "abcb", "abc"),
        ({"min_rating": 3.5, "seen_items_only": True}, "ab", "ab"),
    ],
)
def test_each_option_keeps_what_it_says(rated, options, events, items):
    kept = apply_filters(rated, FilterOptions(**options))
    assert "".join(kept.interactions["item"]) == events
    assert "".join(kept.catalogue.ids) == items
    assert len(kept.filters) == len(options) - ("until" in options and "since" in options)


def test_filters_are_recorded_in_order(rated):
    kept = apply_filters(rated, FilterOptions(k_core=1, min_title_chars=2))
    assert kept.filters == (
        {"filter": "titles", "min_chars": 2, "max_words": None},
        {"filter": "k-core", "k": 1},
    )


def test_days_of_what_has_no_times_are_refused():
    events = pl.DataFrame({"user": ["u", "u"], "item": ["a", "b"], "timestamp": [0, 1]})
    catalogue = Catalogue(pl.DataFrame({"item": ["a", "b"], "title": ["A", "B"]}))
    data = Dataset("order", events, catalogue, source={"times": "order"})
    assert not data.has_times
    with pytest.raises(ThinkrankError, match="has no times, so no days can be kept"):
        apply_filters(data, FilterOptions(until=date(2024, 1, 1)))


@pytest.mark.parametrize(
    "options", [{"min_title_chars": 99}, {"min_rating": 9}, {"since": "2001-01-01"}, {"k_core": 3}]
)
def test_a_filter_that_leaves_nothing_says_which(rated, options):
    with pytest.raises(ThinkrankError, match=r"rated: the filter .* leaves nothing"):
        apply_filters(rated, FilterOptions(**options))


def test_ratings_cannot_be_asked_of_data_without(dataset):
    with pytest.raises(ThinkrankError, match="has no ratings"):
        apply_filters(dataset, FilterOptions(min_rating=4))


def test_types_of_events_are_chosen(build_dataset):
    dataset = build_dataset([("u", "a", 1), ("u", "b", 2), ("v", "a", 3)])
    events = dataset.interactions.with_columns(event=pl.Series(["view", "buy", "view"]))
    dataset = replace(dataset, interactions=events)
    assert apply_filters(dataset, FilterOptions(event="buy")).interactions["item"].to_list() == ["b"]
    both = apply_filters(dataset, FilterOptions(event="buy, view"))
    assert both.describe()["events"] == {"view": 2, "buy": 1}
    assert both.filters == ({"filter": "events", "event": ["buy", "view"]},)
    weighed = apply_filters(dataset, FilterOptions(event={"view": 0.5}))
    assert weighed.filters == ({"filter": "events", "event": ["view"], "weights": {"view": 0.5}},)
    assert weighed.weights_E.tolist() == [0.5, 0.5]
    (told,) = [line for line in remarks(weighed) if "count" in line]
    assert told.endswith("count view 0.5 in popularity, item-kNN, EASE and ALS; everything else takes them alike")
    with pytest.raises(ValidationError):
        FilterOptions(event={"view": 0})
    with pytest.raises(ThinkrankError, match="no event 'by'; nearest: buy; there are view 2, buy 1"):
        apply_filters(dataset, FilterOptions(event=("by",)))


def test_without_types_there_is_nothing_to_choose(dataset):
    with pytest.raises(ThinkrankError, match="has no types of event to choose by"):
        apply_filters(dataset, FilterOptions(event="buy"))
