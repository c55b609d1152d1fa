import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrank.data import ListWorld, ListWorldOptions
from thinkrank.data.synthetic import feedback
from thinkrank.errors import ThinkrankError

SMALL = ListWorldOptions(users=20, items=30, kinds=4, styles=8, events=5, days=10, lists=60, candidates=5)


@pytest.fixture(scope="module")
def world() -> ListWorld:
    return ListWorld(SMALL)


def test_lists_are_displayed_by_a_score_that_is_near_the_truth(world):
    lists = world.lists
    scores_LN = lists.numeric_LNF[:, :, 0]
    assert (np.diff(scores_LN, axis=1) <= 0).all()
    exact = ListWorld(SMALL.model_copy(update={"score_noise": 0.0})).lists
    truth = [
        world.world.utilities(int(user), int(time))[items]
        for user, time, items in zip(exact.users_L, exact.times_L, exact.items_LN, strict=True)
    ]
    np.testing.assert_allclose(exact.numeric_LNF[:, :, 0], truth, rtol=1e-5)


def test_the_chances_are_those_of_the_world_list_by_list(world):
    lists = world.lists
    slots_LK = np.argsort(np.random.default_rng(0).random(lists.items_LN.shape), axis=1)[:, :3]
    chances_LK = world.click_probabilities(lists, slots_LK)
    for index, slots in enumerate(slots_LK):
        user, time, slate = int(lists.users_L[index]), int(lists.times_L[index]), lists.items_LN[index][slots]
        np.testing.assert_allclose(chances_LK[index], world.world.click_probabilities(user, time, slate))
        np.testing.assert_allclose(world.expected_clicks(lists, slots_LK)[index], chances_LK[index].sum())


def test_clicks_come_as_often_as_the_chances_say():
    lists_world = ListWorld(SMALL.model_copy(update={"lists": 20_000}))
    lists = lists_world.lists
    displayed = np.tile(np.arange(5), (len(lists), 1))
    expected_N = lists_world.click_probabilities(lists, displayed).mean(axis=0)
    assert np.abs(lists.feedback().mean(axis=0) - expected_N).max() < 4 * np.sqrt(0.25 / len(lists))


def test_the_best_slate_is_that_of_trying_them_all(world):
    lists = world.lists
    for k in (1, 3, 5):
        best_LK = world.best_slots(lists, k)
        for index in range(0, len(lists), 7):
            part = lists.subset(np.full(len(list(itertools.permutations(range(5), k))), index))
            every = np.array(list(itertools.permutations(range(5), k)))
            assert world.expected_clicks(lists, best_LK)[index] == pytest.approx(
                world.expected_clicks(part, every).max()
            )


@given(
    attractions=st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.5001, 0.9, 1.0]), min_size=1, max_size=6),
    seed=st.integers(0, 99),
    k=st.integers(1, 6),
    bias=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    saturation=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
)
def test_the_closed_form_of_the_best_list_equals_enumeration(attractions, seed, k, bias, saturation):
    attractions_N = np.array(attractions)
    kinds_N = np.random.default_rng(seed).integers(0, 3, len(attractions_N))
    k = min(k, len(attractions_N))

    def clicks(places_K):
        chances = feedback.click_probabilities(
            attractions_N[None, places_K], kinds_N[None, places_K], position_bias=bias, saturation=saturation
        )
        return chances.sum()

    enumerated = feedback.best_list(attractions_N, kinds_N, k, position_bias=bias, saturation=saturation)
    order_N = feedback.best_order(attractions_N[None], kinds_N[None], saturation=saturation)[0]
    assert sorted(order_N) == list(range(len(attractions_N)))
    assert clicks(order_N[:k]) == pytest.approx(clicks(enumerated), abs=1e-12)


def test_regret_is_what_is_left_to_the_best_and_parts_know_their_lists(world):
    split = world.lists.split(0.2, 0.3)
    displayed = np.tile(np.arange(5), (len(split.test), 1))
    regret_L = world.regret(split.test, displayed)
    assert (regret_L > -1e-12).all()
    assert regret_L.mean() > 0.01
    np.testing.assert_allclose(world.regret(split.test, world.best_slots(split.test)), 0, atol=1e-12)
    order = np.argsort(world.lists.times_L, kind="stable")[-len(split.test) :]
    np.testing.assert_allclose(regret_L, world.regret(world.lists, np.tile(np.arange(5), (60, 1)))[order])


def test_histories_are_what_users_took_before(world):
    lists = world.lists
    for index in range(0, len(lists), 9):
        user, time = int(lists.users_L[index]), lists.times_L[index]
        before = world.world.times_UE[user] < time
        assert lists.histories[index].items.tolist() == world.world.items_UE[user][before].tolist()


def test_categories_are_style_and_kind(world):
    lists = world.lists
    assert lists.categorical_sizes == (9, 5)
    assert np.array_equal(lists.categorical_LNC[:, :, 1], world.world.kinds_I[lists.items_LN] + 1)


@pytest.mark.parametrize(
    ("slots", "message"), [([0, 5], "place outside"), ([-1, 0], "place outside"), ([2, 2], "twice")]
)
def test_impossible_slates_are_refused(world, slots, message):
    with pytest.raises(ThinkrankError, match=message):
        world.expected_clicks(world.lists, np.tile(slots, (60, 1)))


def test_a_slate_cannot_be_longer_than_its_list(world):
    with pytest.raises(ThinkrankError, match="a slate of 6"):
        world.best_slots(world.lists, 6)


def test_lists_are_made_in_blocks_of_any_size(monkeypatch):
    whole = ListWorld(SMALL).lists.items_LN
    monkeypatch.setattr("thinkrank.data.synthetic.lists._LISTS_AT_ONCE", 7)
    assert np.array_equal(ListWorld(SMALL).lists.items_LN, whole)
