"""Clicks follow the stated formula, and the best list is the best of all."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.data import World, WorldOptions
from thinkrank.data.synthetic.feedback import best_list, click_probabilities
from thinkrank.errors import ThinkrankError

LISTS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2)), min_size=1, max_size=6)
BIAS, SATURATION = st.floats(0, 3), st.floats(0, 1)
MORNING = 1_577_836_800


@pytest.fixture(scope="module")
def world() -> World:
    return World(WorldOptions(users=5, styles=6, kinds=4, items=20, events=5, days=4, position_bias=0.7))


def by_hand(attractions, kinds, position_bias, saturation):
    clicks, shown = [], []
    for place, (attraction, kind) in enumerate(zip(attractions, kinds, strict=True), start=1):
        seen = 1 / place**position_bias
        for earlier in shown:
            if earlier == kind:
                attraction = attraction * saturation
        clicks.append(seen * attraction)
        shown.append(kind)
    return clicks


@given(items=LISTS, position_bias=BIAS, saturation=SATURATION)
def test_a_click_needs_a_look_and_what_earlier_items_of_the_kind_left_of_the_attraction(
    items, position_bias, saturation
):
    attractions, kinds = map(list, zip(*items, strict=True))
    clicks = click_probabilities(
        np.array([attractions, attractions[::-1]]),
        np.array([kinds, kinds[::-1]]),
        position_bias=position_bias,
        saturation=saturation,
    )
    assert clicks[0] == pytest.approx(by_hand(attractions, kinds, position_bias, saturation))
    assert clicks[1] == pytest.approx(by_hand(attractions[::-1], kinds[::-1], position_bias, saturation))


@given(items=LISTS, k=st.integers(1, 6), position_bias=BIAS, saturation=SATURATION)
def test_no_list_is_better_than_the_best(items, k, position_bias, saturation):
    k = min(k, len(items))
    attractions, kinds = map(list, zip(*items, strict=True))

    def clicks(order):
        chosen = [attractions[i] for i in order], [kinds[i] for i in order]
        return sum(by_hand(*chosen, position_bias, saturation))

    best = best_list(
        np.array(attractions), np.array(kinds), k, position_bias=position_bias, saturation=saturation
    ).tolist()
    assert len(set(best)) == k
    assert clicks(best) == pytest.approx(max(map(clicks, permutations(range(len(items)), k))))


def test_the_best_list_is_mixed_where_a_kind_tires():
    attractions, kinds = np.array([0.9, 0.8, 0.6]), np.array([0, 0, 1])
    mixed = best_list(attractions, kinds, 2, position_bias=1.0, saturation=0.5)
    assert mixed.tolist() == [0, 2]  # 0.9 + 0.6 / 2, against 0.9 + 0.8 / 2 / 2
    alike = best_list(attractions, kinds, 2, position_bias=1.0, saturation=1.0)
    assert alike.tolist() == [0, 1]


def test_of_equal_lists_the_first_is_taken():
    best = best_list(np.full(4, 0.5), np.arange(4), 3, position_bias=0.0, saturation=1.0)
    assert best.tolist() == [0, 1, 2]


def test_too_many_lists_are_refused_with_a_way_out():
    attractions, kinds = np.full(20, 0.5), np.arange(20)
    with pytest.raises(ThinkrankError, match="20 candidates make 1,860,480 lists of 5; at most 200,000 are tried"):
        best_list(attractions, kinds, 5, position_bias=1.0, saturation=0.5)


@pytest.mark.parametrize("k", [0, 4])
def test_a_list_that_cannot_be_made_is_refused(k):
    with pytest.raises(ThinkrankError, match=f"a list of {k} cannot be made of 3 candidates"):
        best_list(np.full(3, 0.5), np.arange(3), k, position_bias=1.0, saturation=0.5)


def test_the_attraction_of_an_item_is_the_sigmoid_of_its_utility(world):
    slate, time = [7, 0, 19, 3, 11], MORNING + 2 * 86_400
    utilities = world.utilities(2, time)
    attractions = [1 / (1 + math.exp(-utilities[item])) for item in slate]
    kinds = [world.catalogue.frame["kind"][item] for item in slate]
    expected = by_hand(attractions, kinds, 0.7, 0.5)
    assert world.click_probabilities(2, time, slate) == pytest.approx(expected)
    assert world.expected_clicks(2, time, slate) == pytest.approx(sum(expected))


def test_clicks_come_as_often_as_they_should_and_places_are_independent(world):
    slate, shows = np.array([4, 5, 6, 12]), 4000
    random = np.random.default_rng(0)
    clicks = np.array([world.click(1, MORNING, slate, random) for _ in range(shows)])
    chances = world.click_probabilities(1, MORNING, slate)
    assert (np.abs(clicks.mean(axis=0) - chances) < 4.5 * np.sqrt(chances * (1 - chances) / shows)).all()
    both, chance = (clicks[:, 0] & clicks[:, 1]).mean(), chances[0] * chances[1]
    assert abs(both - chance) < 4.5 * math.sqrt(chance * (1 - chance) / shows)


def test_equal_generators_give_equal_clicks(world):
    first, second = (
        [world.click(0, MORNING, [1, 2, 3], random).tolist() for _ in range(20)]
        for random in (np.random.default_rng(5), np.random.default_rng(5))
    )
    assert first == second


def test_the_best_slate_is_made_of_catalogue_rows(world):
    candidates = [13, 2, 17, 8, 5]
    best = world.best_slate(3, MORNING, candidates, 3)
    assert set(best.tolist()) <= set(candidates)
    highest = max(world.expected_clicks(3, MORNING, list(slate)) for slate in permutations(candidates, 3))
    assert world.expected_clicks(3, MORNING, best) == pytest.approx(highest)


def test_an_empty_list_gets_no_clicks(world):
    assert world.expected_clicks(0, MORNING, []) == 0


@pytest.mark.parametrize(
    ("slate", "fault"),
    [
        ([1, 20], "the list holds item 20; the catalogue has 0 to 19"),
        ([-1], "the list holds item -1"),
        ([4, 2, 4], r"the list \[4, 2, 4\] holds an item twice"),
    ],
)
def test_lists_that_cannot_be_shown_are_refused(world, slate, fault):
    with pytest.raises(ThinkrankError, match=fault):
        world.click_probabilities(0, MORNING, slate)
    with pytest.raises(ThinkrankError, match=fault):
        world.best_slate(0, MORNING, slate, 1)


def test_who_and_when_are_checked_too(world):
    with pytest.raises(ThinkrankError, match="there is no user 5"):
        world.click_probabilities(5, MORNING, [1])
