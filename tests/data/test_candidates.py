"""Candidate sets: who may be in them, how often, and that all methods share them."""

import itertools
import json
from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkrank.data import CandidateSets, Catalogue, Dataset, Samples, candidate_sets, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.testing import two_tribes


def shop(num_items: int = 12, events: str = "ann a 1,ann b 2,ann c 3,bob a 1,bob d 2,bob e 9,cy b 4,cy d 5") -> Dataset:
    """Named events over a catalogue of items a, b, c, ..."""
    names = [chr(ord("a") + row) for row in range(num_items)]
    rows = [event.split() for event in events.split(",")]
    frame = pl.DataFrame(
        {"user": [r[0] for r in rows], "item": [r[1] for r in rows], "timestamp": [int(r[2]) for r in rows]}
    )
    return Dataset("shop", frame, Catalogue(pl.DataFrame({"item": names, "title": names})))


def drawn(samples: Samples, size: int = 20, **options: Any) -> CandidateSets:
    """Sets; popular negatives go by all events."""
    counts_I = np.bincount(samples.dataset.items_E, minlength=len(samples.dataset.catalogue))
    return candidate_sets(samples, size, counts_I=counts_I, **options)


def every_sample(dataset: Dataset) -> Samples:
    return split_dataset(dataset, fractions=(0.0, 0.0, 1.0)).test


def touched(samples: Samples, row: int) -> set[int]:
    """What the user of a sample did at any time."""
    return set(samples.dataset.history(samples.dataset.users[samples.users[row]]).items.tolist())


@pytest.mark.parametrize("negatives", ["uniform", "popularity"])
def test_a_set_is_the_target_and_items_the_user_touches_nowhere(negatives):
    samples = every_sample(two_tribes())
    sets = drawn(samples, 5, negatives=negatives)
    assert len(sets) == len(samples) > 50
    for row, sample in enumerate(samples):
        items = sets.items_BN[row][sets.mask_BN[row]].tolist()
        assert items[sets.positive_B[row]] == sample.target
        assert len(set(items)) == len(items)
        assert touched(samples, row) & set(items) == {sample.target}
        assert sets.histories[row].items.tolist() == sample.history.items.tolist()


def crowd(num_users: int, others: str = "") -> Samples:
    """One sample of each user, all alike: a, then b. The other events are of users with nothing to predict."""
    alike = ",".join(f"u{user} a 1,u{user} b 2" for user in range(num_users))
    return every_sample(shop(events=alike + others, num_items=7))


def test_uniform_negatives_are_equally_likely():
    sets = candidate_sets(crowd(2000), 4)
    counts = Counter(sets.items_BN.flatten().tolist())
    assert counts.pop(1) == 2000
    assert set(counts) == {2, 3, 4, 5, 6}
    assert all(abs(count - 1200) < 5 * 1200**0.5 for count in counts.values())


def test_popular_negatives_are_drawn_one_after_the_other_in_proportion_to_their_interactions():
    weights = {2: 1, 3: 2, 4: 5}
    others = "".join(f",{name}{user} {name} 1" for name, n in {"c": 1, "d": 2, "e": 5}.items() for user in range(n))
    sets = drawn(crowd(3000, others), 3, negatives="popularity")
    counted = Counter(frozenset(row) - {1} for row in sets.items_BN.tolist())
    for pair in itertools.combinations(weights, 2):
        share = sum(weights[i] / 8 * weights[j] / (8 - weights[i]) for i, j in (pair, pair[::-1]))
        assert counted[frozenset(pair)] == pytest.approx(3000 * share, abs=4 * (3000 * share) ** 0.5)
    assert sum(counted.values()) == 3000


def test_the_positive_is_as_often_at_one_place_as_at_another():
    places = Counter(candidate_sets(crowd(2000), 5).positive_B.tolist())
    assert all(abs(places[place] - 400) < 100 for place in range(5))


def test_popular_negatives_are_popular_in_the_train_part_alone():
    """Everybody takes c in the end, which training must not know; d is taken before."""
    events = ",".join(
        f"u{user} a {user},u{user} {'bd'[user % 2]} {20 + user},u{user} c {40 + user}" for user in range(9)
    )
    split = split_dataset(shop(events=f"{events},v a 60,v b 61"), fractions=(0.5, 0.0, 0.5))
    assert [sample.target for sample in split.test if sample.user < 9] == [2] * 9
    asked = split.test[-1:]
    sets = candidate_sets(asked, 12, negatives="popularity", counts_I=split.train_counts)
    assert sorted(sets.items_BN[0].tolist()) == [-1] * 10 + [1, 3]
    with pytest.raises(ThinkrankError, match=r"counts_I=split\.train_counts"):
        candidate_sets(asked, 12, negatives="popularity")


def test_what_is_taken_later_may_be_a_negative_of_training_and_never_of_an_evaluation():
    for ties, past in (("before", {0, 1}), ("strict", {0})):
        dataset = shop(num_items=6, events="ann a 1,ann b 2,ann c 2,ann d 3")
        samples = split_dataset(dataset, fractions=(1.0, 0.0, 0.0), ties=ties).train[1:2]
        assert samples.targets.tolist() == [2]
        assert set(candidate_sets(samples, 6, later=True).items_BN[0].tolist()) - {-1} == set(range(6)) - past
        assert set(candidate_sets(samples, 6).items_BN[0].tolist()) - {-1} == {2, 4, 5}


@pytest.mark.parametrize("negatives", ["uniform", "popularity"])
def test_where_too_few_items_are_left_the_set_is_filled_up(negatives):
    samples = every_sample(shop(num_items=5))
    sets = drawn(samples, 9, negatives=negatives)
    assert sets.items_BN.shape == (len(samples), 9)
    for row, (items, sample) in enumerate(zip(sets.items_BN, samples, strict=True)):
        left = set(range(5)) - touched(samples, row)
        assert sorted(items[items >= 0].tolist()) == sorted(left | {sample.target})
        assert (items[np.count_nonzero(items >= 0) :] == -1).all()
    assert sets.manifest()["short sets"] == len(samples)


@pytest.mark.parametrize("negatives", ["uniform", "popularity"])
def test_a_sets_draw_does_not_depend_on_which_others_there_are(negatives):
    samples = every_sample(two_tribes())
    whole, part = (drawn(some, 4, negatives=negatives, seed=3) for some in (samples, samples.subset(9, 1)))
    rows = [whole.positions.tolist().index(position) for position in part.positions.tolist()]
    assert (whole.items_BN[rows] == part.items_BN).all()
    other = drawn(samples, 4, negatives=negatives, seed=4)
    assert (other.items_BN != whole.items_BN).any()


@given(st.integers(0, 100))
@settings(max_examples=10)
def test_shuffling_changes_the_order_only(seed):
    sets = candidate_sets(every_sample(shop(num_items=6)), 5)
    moved = sets.shuffled(seed)
    assert (np.sort(moved.items_BN) == np.sort(sets.items_BN)).all()
    assert (moved.mask_BN == sets.mask_BN).all()
    assert (sets.shuffled(seed).items_BN == moved.items_BN).all()
    assert any((sets.shuffled(seed + n).items_BN != moved.items_BN).any() for n in (1, 2, 3))


def test_sets_come_back_from_disk_as_they_were(tmp_path):
    dataset = shop(num_items=6)
    sets = drawn(every_sample(dataset), 5, negatives="popularity", seed=7)
    sets.save(tmp_path / "sets")
    again = CandidateSets.load(tmp_path / "sets", dataset)
    assert (again.items_BN == sets.items_BN).all()
    assert (again.positive_B == sets.positive_B).all()
    assert (again.positions == sets.positions).all()
    assert (again.negatives, again.seed) == ("popularity", 7)
    assert again.manifest() == sets.manifest()
    manifest = json.loads((tmp_path / "sets" / "candidates.json").read_text())
    assert manifest["fingerprint"] == dataset.fingerprint
    assert (manifest["seed"], manifest["negatives"], manifest["candidates"]) == (7, "popularity", 5)


def test_sets_of_other_data_are_refused_whatever_its_name(tmp_path):
    candidate_sets(every_sample(shop()), 5).save(tmp_path)
    with pytest.raises(ThinkrankError, match="drawn from other data: shop"):
        CandidateSets.load(tmp_path, shop(events="ann a 1,ann b 2"))
    same = shop()
    renamed = Dataset("another name", same.interactions, same.catalogue)
    assert len(CandidateSets.load(tmp_path, renamed)) == 5


def test_missing_and_damaged_files_are_refused_by_name(tmp_path):
    dataset = shop()
    with pytest.raises(ThinkrankError, match="not a folder of candidate sets"):
        CandidateSets.load(tmp_path, dataset)
    candidate_sets(every_sample(dataset), 5).save(tmp_path)
    table = pl.read_parquet(tmp_path / "candidates.parquet")
    table.with_columns(pl.col("positive") + 1).write_parquet(tmp_path / "candidates.parquet")
    with pytest.raises(ThinkrankError, match=r"damaged: candidates.parquet"):
        CandidateSets.load(tmp_path, dataset)
    (tmp_path / "candidates.json").write_text("{}")
    with pytest.raises(ThinkrankError, match="damaged: no 'candidates'"):
        CandidateSets.load(tmp_path, dataset)


def test_sets_that_do_not_fit_their_samples_cannot_be_made():
    sets = candidate_sets(every_sample(shop()), 4)
    for change, fault in [
        (lambda items: np.roll(items, 1, axis=0), "not the sample's target"),
        (lambda items: np.where(np.arange(4) == (sets.positive_B[:, None] + 1) % 4, 12, items), "not in the catalogue"),
        (lambda items: np.where(np.arange(4) == (sets.positive_B[:, None] + 1) % 4, items[:, [0]], items), "repeated"),
    ]:
        with pytest.raises(ThinkrankError, match=fault):
            CandidateSets(sets.samples, change(sets.items_BN).astype(np.int32), sets.positive_B, "uniform", 0)
    gap = np.full((1, 3), -1, dtype=np.int32)
    gap[0, 2] = sets.samples.targets[0]
    with pytest.raises(ThinkrankError, match="a fill stands before"):
        CandidateSets(sets.samples[:1], gap, np.array([2]), "uniform", 0)


def test_senseless_requests_are_refused():
    samples = every_sample(shop())
    with pytest.raises(ThinkrankError, match="nearest: uniform"):
        candidate_sets(samples, negatives="unifrom")
    with pytest.raises(ThinkrankError, match="at least one negative"):
        candidate_sets(samples, 1)


def test_no_samples_give_no_sets():
    sets = candidate_sets(every_sample(shop())[:0], 4)
    assert sets.items_BN.shape == (0, 4)
    assert sets.histories == []
