import numpy as np
import polars as pl
import pytest

from thinkrank.cascade.training_data import candidates_from_retriever, lists_from_retriever
from thinkrank.data import Catalogue, Dataset, Samples, World, WorldOptions, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.retrieve import ItemKNN, Popularity
from thinkrank.stages.order import mask_seen
from thinkrank.testing import two_tribes


@pytest.fixture(scope="module")
def split():
    return split_dataset(World(WorldOptions(users=40, items=30, events=8, days=5)).dataset())


@pytest.fixture(scope="module")
def popularity(split):
    return Popularity().fit(split)


@pytest.mark.parametrize("targets", ["found", "all"])
def test_lists_hold_the_best_unseen_items_and_the_target(split, popularity, targets):
    lists = lists_from_retriever(split.test, popularity, 6, targets=targets)
    histories = split.test.histories()
    scores_SI = mask_seen(popularity.scores(histories), histories)
    best_SN = np.argsort(-scores_SI, axis=1, kind="stable")[:, :6]
    row = 0
    for sample, best in zip(split.test, best_SN, strict=True):
        found = sample.target in best
        if not found and targets == "found":
            continue
        expected = best if found else [*best[:-1], sample.target]
        shown = lists.items_LN[row]
        assert sorted(shown) == sorted(expected)
        if targets == "found":
            assert shown.tolist() == best.tolist()
            scores = popularity.scores([sample.history])[0, best].astype(np.float64)
            standard = (scores - scores.mean()) / scores.std() if scores.std() else np.zeros(6)
            np.testing.assert_allclose(lists.numeric_LNF[row, :, 0], standard, atol=1e-5)
        assert shown[lists.feedback()[row] > 0].tolist() == [sample.target]
        assert lists.histories[row].items.tolist() == sample.history.items.tolist()
        assert (lists.times_L[row], lists.users_L[row]) == (sample.time, sample.user)
        row += 1
    assert row == len(lists)


def test_lost_samples_are_counted(split, popularity):
    lists = lists_from_retriever(split.test, popularity, 3)
    assert lists.notices == (
        f"left out {len(split.test) - len(lists)} of {len(split.test)} samples whose target the retriever did not find",
    )
    assert len(lists_from_retriever(split.test, popularity, 3, targets="all")) == len(split.test)


def test_neither_place_nor_score_gives_away_an_inserted_target(split, popularity):
    lists = lists_from_retriever(split.test, popularity, 3, targets="all")
    assert lists.numeric_names == ()
    places = np.concatenate(
        [
            lists_from_retriever(split.test, popularity, 3, targets="all", seed=seed).feedback().argmax(axis=1)
            for seed in range(20)
        ]
    )
    shares = np.bincount(places) / len(places)
    assert np.abs(shares - 1 / 3).max() < 4 * np.sqrt(2 / 9 / len(places))


def test_a_repurchase_is_found_only_if_seen_items_are_kept():
    split = split_dataset(two_tribes(), "leave-last-out")
    model = Popularity().fit(split)
    seen = lists_from_retriever(split.test, model, 11, filter_seen=False)
    assert len(seen) == len(split.test)
    with pytest.raises(ThinkrankError, match="no target among its 11 best"):
        lists_from_retriever(split.test, model, 11)


def test_impossible_lengths_are_refused(split, popularity):
    for n in (1, 31):
        with pytest.raises(ThinkrankError, match=f"lists of {n} cannot be made from 30 items"):
            lists_from_retriever(split.test, popularity, n)


def shop(events: str, num_items: int = 12) -> Samples:
    """Every sample of named events over a catalogue of items a, b, c, ..."""
    names = [chr(ord("a") + row) for row in range(num_items)]
    rows = [event.split() for event in events.split(",")]
    frame = pl.DataFrame(
        {"user": [r[0] for r in rows], "item": [r[1] for r in rows], "timestamp": [int(r[2]) for r in rows]}
    )
    dataset = Dataset("shop", frame, Catalogue(pl.DataFrame({"item": names, "title": names})))
    return split_dataset(dataset, fractions=(0.0, 0.0, 1.0)).test


class Fixed(Popularity):
    """A retriever that gives every request the same scores."""

    def __init__(self, scores, catalogue):
        super().__init__()
        self.row = np.array(scores, dtype=np.float32)
        self.learn(catalogue, {})

    def scores(self, requests):
        return np.tile(self.row, (len(requests), 1))


def test_a_set_holds_the_best_of_a_retriever_and_the_target_in_place_of_the_last():
    samples = shop("ann a 1,ann b 2,ann c 3,bob a 1,bob d 2,bob e 9,cy b 4,cy d 5")
    best_first = Fixed(range(12, 0, -1), samples.dataset.catalogue)  # a is the best, l the worst
    sets = candidates_from_retriever(samples, best_first, 4)
    for row, sample in enumerate(sets.samples):
        seen = set(sample.history.items.tolist())
        best = [item for item in range(12) if item not in seen][:4]
        expected = set(best) if sample.target in best else {*best[:3], sample.target}
        assert set(sets.items_BN[row].tolist()) == expected


def test_a_target_that_was_bought_before_stays_the_positive_of_its_set():
    samples = shop("ann a 1,ann b 2,ann a 3")
    sets = candidates_from_retriever(samples, Fixed(range(12, 0, -1), samples.dataset.catalogue), 3)
    assert sets.samples.targets.tolist() == [1, 0]
    assert set(sets.items_BN[1].tolist()) == {0, 2, 3}


def test_sets_of_a_real_retriever_hold_what_it_answers():
    split = split_dataset(two_tribes())
    retriever = ItemKNN().fit(split)
    sets = candidates_from_retriever(split.test, retriever, 3)
    found = retriever.retrieve(sets.requests, 3).items_BK
    assert any(sorted(row) == sorted(best) for row, best in zip(sets.items_BN.tolist(), found.tolist(), strict=True))


def test_a_set_is_filled_up_where_the_retriever_finds_too_little():
    samples = shop("ann a 1,ann b 2,ann c 3", num_items=5)
    sets = candidates_from_retriever(samples, Fixed([1.0, -np.inf, 1, 2, 3], samples.dataset.catalogue), 9)
    for items, sample in zip(sets.items_BN, samples, strict=True):
        left = set(range(5)) - {*sample.history.items.tolist(), 1}
        assert sorted(items[items >= 0].tolist()) == sorted(left | {sample.target})
        assert (items[np.count_nonzero(items >= 0) :] == -1).all()


def test_a_set_does_not_depend_on_which_others_there_are():
    samples = split_dataset(two_tribes(users_per_tribe=60), fractions=(0.0, 0.0, 1.0)).test

    sizes = []

    class Noise(Fixed):
        def scores(self, requests):
            sizes.append(len(requests))
            rows = [np.random.default_rng(history.items.tolist()).random(11) for history in requests.histories]
            return np.array(rows, dtype=np.float32)

    stage = Noise([], samples.dataset.catalogue)
    sets = candidates_from_retriever(samples, stage, 4)
    assert sizes == [256, len(samples) - 256]
    alone = candidates_from_retriever(samples[300:301], stage, 4)
    assert (alone.items_BN[0] == sets.items_BN[300]).all()
    assert (candidates_from_retriever(samples, stage, 4, seed=4).items_BN != sets.items_BN).any()


def test_senseless_sets_are_refused():
    samples = shop("ann a 1,ann b 2")
    with pytest.raises(ThinkrankError, match="at least one negative"):
        candidates_from_retriever(samples, Popularity(), 1)
    larger = Fixed(range(13), Catalogue(pl.DataFrame({"item": [str(row) for row in range(13)], "title": "x"})))
    with pytest.raises(ThinkrankError, match="knows other items"):
        candidates_from_retriever(samples, larger, 4)
    with pytest.raises(ValueError, match="NaN"):
        candidates_from_retriever(samples, Fixed([np.nan] * 12, samples.dataset.catalogue), 4)
