"""A relay has one answer, it takes two steps to find, and nothing simpler finds it."""

import functools
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from thinkrank.data import History, RelayOptions, RelayWorld, load_dataset, relay_split
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import evaluate_retrieval
from thinkrank.options import Options
from thinkrank.retrieve import DenseRetriever, ItemKNN, Popularity

LENGTHS = [3, 4, 5, 12]


@pytest.fixture(scope="module", params=LENGTHS)
def relay(request) -> RelayWorld:
    return RelayWorld(RelayOptions(users=60, relay_length=request.param))


@functools.cache
def words(relay: RelayWorld) -> list[tuple[str, str]]:
    return relay.catalogue.frame.select("style", "kind").rows()


def partners(relay: RelayWorld, items: list[int], item: int, shared: int) -> list[int]:
    """Other items with the same style (0) or kind (1), by their words."""
    return [other for other in items if other != item and words(relay)[other][shared] == words(relay)[item][shared]]


def reachable(relay: RelayWorld, items: list[int]) -> set[int]:
    """Every catalogue item that two steps from the latest lead to, by search over words."""
    of_words = {pair: row for row, pair in enumerate(words(relay))}
    return {
        of_words[words(relay)[last][0], words(relay)[items[-1]][1]]
        for middle in partners(relay, items, items[-1], 0)
        for last in partners(relay, items, middle, 1)
    }


def test_the_catalogue_holds_every_pair_of_words():
    frame = RelayWorld().catalogue.frame
    assert (frame.height, frame["title"].n_unique()) == (144, 144)
    assert frame.select("style", "kind").n_unique() == 144
    assert frame["categories"].to_list() == [list(pair) for pair in frame.select("style", "kind").rows()]


def test_a_history_is_one_cycle_of_items_that_share_a_style_and_a_kind_in_turn(relay):
    length = relay.options.relay_length
    for items in relay.histories_UL.tolist():
        assert len(set(items)) == 2 * length
        assert (
            len({words(relay)[item][0] for item in items}) == len({words(relay)[item][1] for item in items}) == length
        )
        walked, item, shared = [], items[0], 0
        while item not in walked:
            walked.append(item)
            (item,) = partners(relay, items, item, shared)
            shared = 1 - shared
        assert item == items[0]
        assert len(walked) == 2 * length


def test_the_answer_is_the_only_item_that_two_steps_lead_to(relay):
    for items in relay.histories_UL.tolist():
        assert reachable(relay, items) == {relay.answer(items)}


def test_the_answer_is_never_in_the_history_wherever_the_relay_starts(relay):
    for items in relay.histories_UL[:20].tolist():
        for latest in items:
            rest = [item for item in items if item != latest]
            assert relay.answer([*rest, latest]) not in items


def test_with_two_styles_the_answer_would_be_in_the_history():
    relay = RelayWorld(RelayOptions(styles=3, kinds=3, relay_length=3))
    square = [0, 1, 4, 3]  # (A,x) (A,y) (B,y) (B,x)
    assert relay.answer(square) in square
    with pytest.raises(ValueError, match="greater than or equal to 3"):
        RelayOptions(relay_length=2)


def test_only_the_latest_item_counts_of_the_order(relay):
    random = np.random.default_rng(0)
    for items in relay.histories_UL[:20]:
        shuffled = [*random.permutation(items[:-1]).tolist(), int(items[-1])]
        assert relay.answer(shuffled) == relay.answer(items)


def test_the_place_of_an_item_says_nothing():
    relay = RelayWorld(RelayOptions(users=3000))
    chains = [relay.chain(items, items[-1]) for items in relay.histories_UL.tolist()]
    for step in (1, 2):
        stops = [chain[step] for chain in chains]
        places = [items.index(stop) for items, stop in zip(relay.histories_UL.tolist(), stops, strict=True)]
        counts = np.bincount(places, minlength=7)  # of the seven places before the latest
        assert (np.abs(counts - 3000 / 7) < 4.5 * math.sqrt(3000 / 7 * 6 / 7)).all()


def test_a_chain_is_a_start_its_style_partner_and_the_kind_partner_of_that(relay):
    for items in relay.histories_UL[:20].tolist():
        for start in items:
            first, middle, last = relay.chain(items, start)
            assert first == start
            assert partners(relay, items, start, 0) == [middle]
            assert partners(relay, items, middle, 1) == [last]


def test_a_small_relay_by_hand():
    relay = RelayWorld(RelayOptions(styles=3, kinds=3, relay_length=3))
    ax, ay, by, bz, cz, cx = 0, 1, 4, 5, 8, 6
    assert relay.chain([cx, bz, ay, cz, by, ax], ax) == (ax, ay, by)
    assert relay.answer([cx, bz, ay, cz, by, ax]) == 3  # (B,x)
    assert relay.answer([cx, bz, ay, ax, by, cz]) == 2  # (C,z), (C,x), (A,x): (A,z)


@pytest.mark.parametrize("length", [3, 4, 6, 12])
def test_without_a_step_the_shown_words_and_the_latest_kind_leave_a_fixed_number_of_equal_guesses(length):
    relay = RelayWorld(RelayOptions(users=1000, relay_length=length))
    places = []
    for items in relay.histories_UL.tolist():
        styles, kinds = {words(relay)[item][0] for item in items}, {words(relay)[item][1] for item in items}
        grid = [row for row, (s, k) in enumerate(words(relay)) if s in styles and k in kinds and row not in items]
        column = [row for row in grid if words(relay)[row][1] == words(relay)[items[-1]][1]]
        assert (len(grid), len(column)) == (length * (length - 2), length - 2)
        places.append(column.index(relay.answer(items)))
    counts, chance = np.bincount(places, minlength=length - 2), 1 / (length - 2)
    assert (np.abs(counts - 1000 * chance) <= 4.5 * math.sqrt(1000 * chance * (1 - chance))).all()


def test_users_follow_one_another_and_the_last_event_is_the_answer(relay):
    dataset = relay.dataset()
    assert (np.diff(dataset.times_E) > 0).all()
    assert dataset.notices == ()
    events = dataset.items_E.reshape(60, -1)
    assert events[:, :-1].tolist() == relay.histories_UL.tolist()
    assert events[:, -1].tolist() == [relay.answer(items) for items in relay.histories_UL]


@pytest.mark.parametrize(("users", "sizes"), [(2000, (1600, 200, 200)), (7, (5, 1, 1)), (1, (0, 0, 1))])
def test_a_split_holds_each_users_last_event_and_no_other(users, sizes):
    dataset = RelayWorld(RelayOptions(users=users)).dataset()
    split = relay_split(dataset)
    parts = (split.train, split.valid, split.test)
    assert tuple(map(len, parts)) == sizes
    assert np.concatenate([part.users for part in parts]).tolist() == list(range(users))
    for part in parts:
        assert all(len(history) == 8 for history in part.histories())
        assert part.targets.tolist() == [dataset.items_E[dataset.offsets[user + 1] - 1] for user in part.users]


def test_training_sees_all_of_the_train_users_and_nothing_of_the_others():
    dataset = RelayWorld(RelayOptions(users=50)).dataset()
    split = relay_split(dataset, (0.5, 0.25, 0.25))
    assert [history.items.tolist() for history in split.train_histories()] == dataset.items_E.reshape(50, 9)[
        :25
    ].tolist()
    assert split.manifest()["parts"]["train"]["samples"] == 25


def test_fractions_must_part_one():
    with pytest.raises(ThinkrankError, match="sum to 1"):
        relay_split(RelayWorld(RelayOptions(users=5)).dataset(), (0.5, 0.1, 0.1))


class Oracle(DenseRetriever[Options]):
    """The world's own scores, asked as every system is."""

    kind, config_class = "oracle", Options

    def __init__(self, relay: RelayWorld) -> None:
        super().__init__()
        self.relay = relay
        self.learn(relay.catalogue, {})

    def scores(self, requests):
        return self.relay.scores(self.checked(requests).histories)


@pytest.mark.parametrize("length", [4, 8])
def test_what_counts_items_guesses_and_the_oracle_knows(length):
    relay = RelayWorld(RelayOptions(relay_length=length))
    split = relay_split(relay.dataset())
    systems = {
        "popularity": Popularity().fit(split),
        "item-knn": ItemKNN().fit(split),
        "oracle": Oracle(relay),
    }
    evaluation = evaluate_retrieval(systems, split.test, cutoffs=(1, 10))
    assert evaluation.values("oracle", "hit@1").mean() == 1
    # 10 of the 144 - 2n items not shown, with 4.5 deviations of 200 samples
    chance = 10 / (144 - 2 * length)
    assert evaluation.values("popularity", "hit@10").mean() < chance + 4.5 * math.sqrt(chance / 200)
    # Items that share words are taken by the same users, so it finds the shown words, but not which of their pairs.
    chance = 1 / (length * (length - 2))
    assert evaluation.values("item-knn", "hit@1").mean() < chance + 4.5 * math.sqrt(chance / 200)


def test_the_same_options_make_the_same_relays_in_any_process():
    code = (
        "from thinkrank.data import RelayOptions, RelayWorld; "
        "print(RelayWorld(RelayOptions(users=50)).dataset().fingerprint)"
    )
    expected = RelayWorld(RelayOptions(users=50)).dataset().fingerprint
    for hash_seed in "01":
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == expected
    assert RelayWorld(RelayOptions(users=50, seed=1)).dataset().fingerprint != expected


def test_more_users_leave_the_first_as_they_were():
    few, many = (RelayWorld(RelayOptions(users=users)).histories_UL for users in (10, 30))
    assert few.tolist() == many[:10].tolist()


def test_histories_that_are_no_relay_are_named():
    relay = RelayWorld(RelayOptions(users=1))
    whole = relay.histories_UL[0].tolist()
    latest = relay.catalogue.titles[whole[-1]]
    style_partner = relay.chain(whole, whole[-1])[1]
    incomplete = [item for item in whole if item != style_partner]
    with pytest.raises(ThinkrankError, match=f"0 other items of the history share the style of '{latest}'"):
        relay.scores([History.of(whole), History.of(incomplete)])
    with pytest.raises(ThinkrankError, match="an empty history has no answer"):
        relay.answer([])
    with pytest.raises(ThinkrankError, match="the history holds item 144; the catalogue has 0 to 143"):
        relay.answer([*whole, 144])
    absent = next(item for item in range(144) if item not in whole)
    with pytest.raises(ThinkrankError, match=f"cannot start at item {absent}: the history does not hold it"):
        relay.chain(whole, absent)


def test_a_relay_needs_as_many_words_as_it_is_long():
    with pytest.raises(ThinkrankError, match=r"synthetic-relay: option relay_length=4: .* only 3 styles or kinds"):
        load_dataset("synthetic-relay", kinds=3)
