from dataclasses import replace

import polars as pl
import pytest

from thinkrank.data import Dataset, History, load_dataset, split_dataset
from thinkrank.data.sample_stream import SampleStream
from thinkrank.errors import ThinkrankError


@pytest.fixture(scope="module")
def split():
    return split_dataset(load_dataset("synthetic", users=30, items=24, styles=6, kinds=6, events=10))


class Again:
    """Samples whose history holds the target, for some targets."""

    def __init__(self, samples, targets):
        self.samples, self.targets = samples, targets

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        sample = self.samples[index]
        met = sample.history.items.tolist()
        return replace(sample, history=History.of([sample.target, *met] if sample.target in self.targets else met))


@pytest.fixture
def draws(split):
    return SampleStream(split.train, seed=3, skip_seen=True)


def test_an_epoch_draws_every_sample_once_and_the_next_one_in_another_order(draws, split):
    size = len(split.train)
    first, second = ([draws.sample(epoch * size + place) for place in range(size)] for epoch in range(2))
    assert sorted(first) == sorted(second) == list(range(size))
    assert first != second


def test_the_order_depends_on_the_seed_alone_and_can_be_entered_anywhere(draws, split):
    whole, end = draws.take(20, 0)
    part, stopped = SampleStream(split.train, seed=3, skip_seen=True).take(12, whole[7][0] + 1)
    assert [draw for draw, _ in part] == [draw for draw, _ in whole[8:]]
    assert stopped == end
    other, _ = SampleStream(split.train, seed=4, skip_seen=True).take(20, 0)
    assert [sample.target for _, sample in other] != [sample.target for _, sample in whole]


def test_a_target_met_before_is_passed_over_where_nobody_could_find_it(split):
    def drawn(targets, *, skip_seen):
        draws = SampleStream(split.train, seed=3, skip_seen=skip_seen)
        draws.samples = Again(split.train, targets)
        return draws.take(10, 0)[0]

    everything = drawn({3, 4, 5}, skip_seen=False)
    assert [draw for draw, _ in everything] == list(range(10))
    rest = drawn({3, 4, 5}, skip_seen=True)
    assert not {3, 4, 5} & {sample.target for _, sample in rest}
    with pytest.raises(ThinkrankError, match="met before"):
        drawn(set(range(24)), skip_seen=True)
    draws = SampleStream(split.train, seed=3, skip_seen=True)
    draws.samples = Again(split.train, set(range(1, 24)))
    few = sum(sample.target == 0 for sample in split.train)
    taken, passed = draws.take(3 * few, 0)  # three times through all of them
    assert {sample.target for _, sample in taken} == {0}
    assert passed > 2 * len(split.train)


def test_an_empty_history_asks_nothing(split):
    days = split.dataset.interactions.with_columns(pl.col("timestamp") // 86_400 // 4 * 86_400 * 4)
    samples = split_dataset(Dataset("days", days, split.dataset.catalogue), "leave-last-out").train
    empty = [len(sample.history) == 0 for sample in samples]
    assert 0 < sum(empty) < len(empty)
    drawn, _ = SampleStream(samples, seed=3, skip_seen=False).take(len(empty) - sum(empty), 0)
    assert all(len(sample.history) for _, sample in drawn)
