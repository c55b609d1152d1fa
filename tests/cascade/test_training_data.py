import numpy as np
import pytest

from thinkrank.cascade.training_data import lists_from_retriever
from thinkrank.data import World, WorldOptions, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.retrieve import Popularity
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
    lists = lists_from_retriever(split.test, popularity, 6, targets=targets, batch_size=7)
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
            np.testing.assert_array_equal(lists.numeric_LNF[row, :, 0], popularity.scores([sample.history])[0, best])
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
