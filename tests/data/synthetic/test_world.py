"""A world of drifting tastes does what it says, so its oracle is one."""

import math
import os
import subprocess
import sys
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thinkrank import metrics
from thinkrank.data import History, World, WorldOptions, expected_ndcg, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import evaluate_retrieval
from thinkrank.options import Options
from thinkrank.retrieve import DenseRetriever, ItemKNN, Popularity
from thinkrank.stages.order import mask_seen, target_ranks

SMALL = WorldOptions(users=80, styles=8, kinds=9, items=40, events=12, days=20)
DAY = 86_400
MORNING = 1_577_836_800  # 2020-01-01, UTC


def small(**changes) -> World:
    return World(SMALL.model_copy(update=changes))


@pytest.fixture(scope="module")
def world() -> World:
    return World(SMALL)


def test_a_title_is_a_style_and_a_kind_and_rules_can_read_both(world):
    frame = world.catalogue.frame
    assert frame["title"].n_unique() == frame.height == 40
    assert (frame["style"].n_unique(), frame["kind"].n_unique()) == (8, 9)
    for row in frame.iter_rows(named=True):
        assert row["title"] == f"{row['style']} {row['kind']}"
        assert row["categories"] == [row["style"], row["kind"]]


def test_nobody_takes_an_item_twice_and_no_two_act_in_the_same_second(world):
    dataset = world.dataset()
    assert np.diff(dataset.offsets).tolist() == [12] * 80
    for user, (start, end) in enumerate(pairwise(dataset.offsets.tolist())):
        assert len(set(dataset.items_E[start:end].tolist())) == 12
        assert dataset.items_E[start:end].tolist() == world.items_UE[user].tolist()
        assert (np.diff(dataset.times_E[start:end]) > 0).all()
    assert len(set(dataset.times_E.tolist())) == 80 * 12
    assert dataset.times_E.min() >= MORNING
    assert dataset.times_E.max() < MORNING + 20 * DAY
    assert dataset.notices == ()


def test_a_user_can_take_everything():
    world = World(WorldOptions(users=3, styles=2, kinds=2, items=4, events=4, days=1))
    assert np.sort(world.items_UE, axis=1).tolist() == [[0, 1, 2, 3]] * 3


def test_users_keep_their_numbers_however_many_there_are():
    world = small(users=101)
    assert world.dataset().items_E.tolist() == world.items_UE.ravel().tolist()


def test_the_same_options_make_the_same_world_in_any_process(world):
    code = (
        "from thinkrank.data import World, WorldOptions; "
        f"print(World(WorldOptions(**{SMALL.model_dump()!r})).dataset().fingerprint)"
    )
    for hash_seed in "01":
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == world.dataset().fingerprint


def test_another_seed_makes_another_world(world):
    other = small(seed=1).dataset()
    assert other.fingerprint != world.dataset().fingerprint
    assert other.catalogue.titles != world.catalogue.titles


def test_a_utility_is_an_appeal_and_two_tastes_of_the_day(world):
    words = world.catalogue.frame.select("style", "kind").rows()
    styles = {style: number for number, style in zip(world.styles_I.tolist(), (s for s, _ in words), strict=True)}
    kinds = {kind: number for number, kind in zip(world.kinds_I.tolist(), (k for _, k in words), strict=True)}
    for user, day in ((0, 0), (3, 7), (79, 19)):
        tastes = world.tastes_UDV[user, day]
        for second in (0, DAY - 1):
            utilities = world.utilities(user, MORNING + day * DAY + second)
            for item, (style, kind) in enumerate(words):
                expected = world.appeals_I[item] + tastes[styles[style]] + tastes[8 + kinds[kind]]
                assert utilities[item] == pytest.approx(expected)


def test_without_drift_nothing_changes():
    world = small(drift=0.0)
    for user in range(5):
        assert world.utilities(user, MORNING).tolist() == world.utilities(user, MORNING + 20 * DAY - 1).tolist()


@pytest.mark.parametrize("drift", [0.05, 0.4])
def test_tastes_take_independent_steps_of_the_stated_size_at_midnight(drift):
    tastes_UDV = small(drift=drift, users=200).tastes_UDV
    steps = np.diff(tastes_UDV, axis=1)
    error = 1 / math.sqrt(2 * steps.size)  # relative, of a standard deviation
    assert steps.std() == pytest.approx(drift, rel=5 * error)
    assert abs(steps.mean()) < 5 * drift / math.sqrt(steps.size)
    assert abs((steps[:, 1:] * steps[:, :-1]).mean()) < 5 * drift**2 / math.sqrt(steps[:, 1:].size)
    # Independent steps add up in variance: 19 of them, and what the user began with.
    walked = tastes_UDV[:, -1] - tastes_UDV[:, 0]
    assert walked.std() == pytest.approx(drift * math.sqrt(19), rel=5 / math.sqrt(2 * walked.size))
    assert tastes_UDV[:, 0].std() == pytest.approx(1, rel=5 / math.sqrt(2 * walked.size))
    # No draw is used twice.
    draws = np.concatenate([tastes_UDV[:, 0].ravel(), steps.ravel() / drift])
    assert len(np.unique(draws.round(12))) == len(draws)


def test_more_drift_changes_no_item_time_or_first_taste(world):
    other = small(drift=1.0)
    assert other.catalogue.titles == world.catalogue.titles
    assert other.times_UE.tolist() == world.times_UE.tolist()
    assert other.appeals_I.tolist() == world.appeals_I.tolist()
    assert other.tastes_UDV[:, 0].tolist() == world.tastes_UDV[:, 0].tolist()


def test_the_chance_of_an_item_is_a_softmax_over_what_the_user_has_not_taken(world):
    samples = split_dataset(world.dataset(), fractions=(1.0, 0.0, 0.0)).train.subset(50, seed=0)
    probabilities = world.probabilities(samples.histories())
    for row, sample in zip(probabilities, samples, strict=True):
        utilities = world.utilities(sample.user, sample.time)
        seen = set(sample.history.items.tolist())
        odds = [0.0 if item in seen else math.exp(utilities[item] / 0.5) for item in range(40)]
        assert row == pytest.approx([odd / sum(odds) for odd in odds])


@pytest.mark.parametrize("place", [0, 1, 4])
def test_choices_follow_those_chances(place):
    world = small(users=1200)
    samples = split_dataset(world.dataset(), fractions=(1.0, 0.0, 0.0)).train
    probabilities = world.probabilities(samples.histories())
    item_at_place = np.argsort(-probabilities, axis=1)[:, place]
    chances = np.take_along_axis(probabilities, item_at_place[:, None], axis=1)[:, 0]
    chosen = (item_at_place == samples.targets).sum()
    assert abs(chosen - chances.sum()) < 4.5 * math.sqrt((chances * (1 - chances)).sum())


def test_as_the_temperature_nears_zero_everyone_takes_the_best_item_left():
    world = small(temperature=1e-6)
    for user in range(80):
        left = set(range(40))
        for item, time in zip(world.items_UE[user].tolist(), world.times_UE[user].tolist(), strict=True):
            assert item == max(left, key=world.utilities(user, time).__getitem__)
            left.remove(item)


def test_the_oracle_scores_true_utilities_at_the_time_of_the_target(world):
    samples = split_dataset(world.dataset()).test
    scores = world.scores(samples.histories())
    for row, sample in zip(scores, samples, strict=True):
        assert row == pytest.approx(world.utilities(sample.user, sample.time), abs=1e-6)
    newest = [history.last(1) for history in samples.histories()]
    assert world.scores(newest).tolist() == scores.tolist()
    assert world.probabilities(newest).tolist() == world.probabilities(samples.histories()).tolist()


class Oracle(DenseRetriever[Options]):
    """The world's own scores, asked as every system is."""

    kind, config_class = "oracle", Options

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.learn(world.catalogue, {})

    def scores(self, requests):
        return self.world.scores(self.checked(requests).histories)


def test_the_oracle_beats_what_learns_and_gets_what_it_expects():
    world = World(WorldOptions(users=200, items=100, events=20, days=30))
    split = split_dataset(world.dataset())
    systems = {
        "popularity": Popularity().fit(split),
        "item-knn": ItemKNN().fit(split),
        "oracle": Oracle(world),
    }
    evaluation = evaluate_retrieval(systems, split.test, cutoffs=(10,))
    got = evaluation.values("oracle", "ndcg@10")
    assert got.mean() > 2 * evaluation.values("popularity", "ndcg@10").mean()
    assert got.mean() > 1.5 * evaluation.values("item-knn", "ndcg@10").mean()
    histories = split.test.histories()
    probabilities = world.probabilities(histories)
    expected = expected_ndcg(mask_seen(world.scores(histories), histories), probabilities, 10)
    assert abs((got - expected).mean()) < 4.5 * got.std() / math.sqrt(len(got))
    assert expected == pytest.approx(expected_ndcg(probabilities, probabilities, 10))


def test_no_ranking_is_expected_to_do_better_than_the_oracles():
    world = World(WorldOptions(users=4, styles=2, kinds=3, items=6, events=3, days=5))
    samples = split_dataset(world.dataset(), fractions=(1.0, 0.0, 0.0)).train
    probabilities = world.probabilities(samples.histories())
    scores = mask_seen(world.scores(samples.histories()), samples.histories())
    for k in (1, 3, 6):
        best = [
            max(
                sum(row[item] / math.log2(2 + place) for place, item in enumerate(order[:k]))
                for order in permutations(range(6))
            )
            for row in probabilities.tolist()
        ]
        assert expected_ndcg(scores, probabilities, k) == pytest.approx(best, rel=1e-5)
        assert expected_ndcg(probabilities, probabilities, k) == pytest.approx(best)


SCORES = arrays(np.float64, (3, 5), elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0]))
ODDS = arrays(np.float64, (3, 5), elements=st.floats(0.01, 1.0))


@given(scores=SCORES, odds=ODDS, k=st.integers(1, 7))
def test_expected_ndcg_is_the_mean_of_ndcg_over_every_target(scores, odds, k):
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    expected = np.zeros(3)
    for target in range(5):
        ranks = target_ranks(scores.astype(np.float32), np.full(3, target))
        relevance = metrics.relevance_from_ranks(ranks, min(k, 5))
        expected += probabilities[:, target] * metrics.ndcg(relevance, k)
    assert expected_ndcg(scores, probabilities, k) == pytest.approx(expected)
    if k >= 5:
        assert expected_ndcg(scores, probabilities) == pytest.approx(expected)


def test_expected_ndcg_refuses_what_has_no_order():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        expected_ndcg(np.zeros((1, 2)), np.full((1, 2), 0.5), 0)
    with pytest.raises(ValueError, match="NaN"):
        expected_ndcg(np.array([[0.0, np.nan]]), np.full((1, 2), 0.5))


def test_histories_that_cannot_be_placed_are_named(world):
    known = world.dataset().history("u00")
    stranger = History(known.items[:1], known.times[:1] + DAY * 400)
    mistaken = History((known.items[:1] + 1) % 40, known.times[:1])
    for history, fault in (
        (History.of([]), "history 1 is empty or has no times"),
        (History.of([3]), "history 1 is empty or has no times"),
        (stranger, f"history 1 is not of this world: nobody took item {known.items[0]} at"),
        (mistaken, "history 1 is not of this world"),
        (known, "history 1 is all that user 0 did, so nothing follows it"),
    ):
        with pytest.raises(ThinkrankError, match=fault):
            world.scores([known[:5], history])
        with pytest.raises(ThinkrankError, match=fault):
            world.probabilities([known[:5], history])


def test_no_histories_have_no_scores(world):
    assert world.scores([]).shape == world.probabilities([]).shape == (0, 40)
    assert expected_ndcg(world.scores([]), world.probabilities([]), 10).shape == (0,)


@pytest.mark.parametrize(
    ("user", "time", "fault"),
    [
        (-1, MORNING, "there is no user -1; this world has 0 to 79"),
        (80, MORNING, "there is no user 80"),
        (0, MORNING - 1, f"time {MORNING - 1} is not of this world, which lasts from {MORNING} to"),
        (0, MORNING + 20 * DAY, "is not of this world"),
    ],
)
def test_users_and_times_outside_the_world_are_named(world, user, time, fault):
    with pytest.raises(ThinkrankError, match=fault):
        world.utilities(user, time)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"styles": 4, "kinds": 4, "items": 17}, "make only 16 items"),
        ({"styles": 4, "kinds": 4}, "make only 16 items"),
        ({"items": 20, "events": 21}, "only 20 items, and nobody takes one twice"),
        ({"items": 20}, "only 20 items"),
        ({"users": 3000, "days": 1}, "more events than seconds"),
        ({"styles": 25}, "less than or equal to 24"),
        ({"taste": float("inf")}, "finite"),
    ],
)
def test_worlds_that_cannot_be_are_refused(options, fault):
    with pytest.raises(ValueError, match=fault):
        WorldOptions(**options)
