import json
from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from thinkrank.data import Dataset, split_dataset
from thinkrank.errors import ThinkrankError

EVENTS = st.lists(
    st.tuples(st.sampled_from("uvwxy"), st.sampled_from("abcd"), st.integers(0, 9)), min_size=1, max_size=60
).filter(lambda events: max(Counter(user for user, _, _ in events).values()) > 1)
TIES = st.sampled_from(["strict", "before"])
KINDS = st.sampled_from(["temporal", "leave-last-out"])


def parts(split):
    return [split.train, split.valid, split.test]


def cut(dataset, kind="temporal", **options):
    """The split; examples whose times are too few to cut between are not looked at."""
    try:
        return split_dataset(dataset, kind, **options)
    except ThinkrankError as error:
        assert any(reason in str(error) for reason in ("have one time", "are too few to cut between"))  # noqa: PT017
        reject()


@given(events=EVENTS, kind=KINDS)
def test_every_event_but_a_users_first_is_a_target_exactly_once(build_dataset, events, kind):
    dataset = build_dataset(events)
    positions = np.concatenate([part.positions for part in parts(cut(dataset, kind))])
    firsts = set(dataset.offsets[:-1].tolist())
    assert sorted(positions.tolist()) == [e for e in range(len(dataset.items_E)) if e not in firsts]


@given(events=EVENTS, kind=KINDS, ties=TIES)
def test_a_history_is_what_a_user_did_earlier_and_by_the_other_rule_what_stands_before(
    build_dataset, events, kind, ties
):
    dataset = build_dataset(events)
    split = cut(dataset, kind, ties=ties)
    for part in parts(split):
        assert part.ties == part[:0].ties == part.subset(1, 0).ties == ties
        for sample, position, history in zip(part, part.positions.tolist(), part.histories(), strict=True):
            rows = range(int(dataset.offsets[sample.user]), position)
            seen = [e for e in rows if ties == "before" or dataset.times_E[e] < sample.time]
            assert sample.history.items.tolist() == history.items.tolist() == dataset.items_E[seen].tolist()
            assert sample.target == dataset.items_E[position]
            assert sample.time == dataset.times_E[position]
            assert np.shares_memory(sample.history.items, dataset.items_E) or not seen
    for history in split.train_histories():
        for place, read in enumerate(history.reads.tolist()):
            earlier = [e for e in range(place) if ties == "before" or history.times[e] < history.times[place]]
            assert read == len(earlier) - 1
        assert history[2:].reads.tolist() == (history.reads[2:] - 2).tolist()


@given(events=EVENTS)
def test_a_temporal_split_learns_nothing_from_later_than_it_is_judged_on(build_dataset, events):
    split = cut(build_dataset(events))
    latest = -1
    for part in parts(split):
        if len(part):
            assert part.times.min() > latest, "a time is cut in two"
            latest = part.times.max()


@given(events=EVENTS, kind=KINDS)
def test_samples_ascend_by_time_then_user_then_position(build_dataset, events, kind):
    for part in parts(cut(build_dataset(events), kind)):
        keys = list(zip(part.times.tolist(), part.users.tolist(), part.positions.tolist(), strict=True))
        assert keys == sorted(keys)


@given(events=EVENTS, kind=KINDS)
def test_train_ranges_cover_train_samples_and_nothing_else(build_dataset, events, kind):
    dataset = build_dataset(events)
    split = cut(dataset, kind)
    for user, (start, end) in enumerate(split.train_ranges.tolist()):
        positions = split.train.positions[split.train.users == user].tolist()
        first = int(dataset.offsets[user])
        assert (start, end) == (first, max(positions) + 1 if positions else first)
        assert positions == list(range(first + 1, end))
    histories = split.train_histories()
    covered = [history.items.tolist() for history in histories]
    assert covered == [dataset.items_E[s:e].tolist() for s, e in split.train_ranges.tolist() if s < e]
    assert [history.items.tolist() for history in histories[1:]] == covered[1:]
    assert all(history.tied is None for history in split.train_histories("before"))
    counts = Counter(row for rows in covered for row in rows)
    assert split.train_counts.tolist() == [counts[row] for row in range(len(dataset.catalogue))]


@given(events=EVENTS)
def test_leaving_the_last_out_takes_two_targets_of_users_with_three_events(build_dataset, events):
    dataset = build_dataset(events)
    split = split_dataset(dataset, "leave-last-out")
    lengths = np.diff(dataset.offsets)
    expected_test = (dataset.offsets[1:] - 1)[lengths >= 3]
    assert sorted(split.test.positions.tolist()) == expected_test.tolist()
    assert sorted(split.valid.positions.tolist()) == (expected_test - 1).tolist()


def test_the_parts_of_a_temporal_split_are_rounded_as_in_the_paper(build_dataset):
    dataset = build_dataset([("u", "a", time) for time in range(13_436)])
    sizes = [len(part) for part in parts(split_dataset(dataset))]
    assert sizes == [10_748, 1_343, 1_344]  # R2ec, table 5, CDs and Vinyl


def test_a_fraction_that_floats_cannot_hold_is_not_cut_short(build_dataset):
    dataset = build_dataset([("u", "a", time) for time in range(101)])
    assert len(split_dataset(dataset, fractions=(0.29, 0.21, 0.5)).train) == 29


def test_ties_go_by_user(build_dataset):
    events = [(user, item, time) for user in "vu" for item, time in (("a", 0), ("b", 5))]
    samples = split_dataset(build_dataset(events), fractions=(1.0, 0.0, 0.0)).train
    assert [samples.dataset.users[user] for user in samples.users] == ["u", "v"]


DAY = 86_400


def test_days_are_strict_and_finer_times_go_by_the_files_order(build_dataset):
    for unit, (found, ties) in {1: ("second", "before"), 60: ("minute", "before"), DAY: ("day", "strict")}.items():
        dataset = build_dataset([("u", item, 7 + unit * time) for item, time in (("a", 0), ("b", 1), ("c", 1))])
        manifest = split_dataset(dataset, "leave-last-out").manifest()
        assert (manifest["time_granularity"], manifest["ties"]) == (found, ties) == (found, dataset.ties)
        assert manifest["parts"]["test"]["tied_target_share"] == 1.0
        described = dataset.describe()
        assert [described[key] for key in ("time_granularity", "ties", "tied_target_share")] == [found, ties, 0.5]
    asked = split_dataset(dataset, "leave-last-out", ties="before")
    assert asked.manifest()["ties"] == "before"
    assert (len(asked.test[0].history), len(split_dataset(dataset, "leave-last-out").test[0].history)) == (2, 1)


def test_a_cut_inside_of_a_time_moves_to_its_nearer_end(build_dataset):
    times = [0, 1, 2, 2, 2, 2, 3, 4, 5, 6, 7]  # ten targets
    samples = build_dataset([("u", "abcdefghijk"[place], time) for place, time in enumerate(times)])
    sizes = [len(part) for part in parts(split_dataset(samples, fractions=(0.2, 0.2, 0.6)))]
    assert sizes == [1, 4, 5]
    assert [len(part) for part in parts(split_dataset(samples, fractions=(0.3, 0.0, 0.7)))] == [1, 0, 9]


def test_times_that_order_nothing_are_not_cut_by(build_dataset):
    random = np.random.default_rng(0)
    events = [(f"u{u}", f"i{random.integers(200)}", DAY * (u + place)) for u in range(600) for place in range(10)]
    dataset = build_dataset(events)
    assert len(split_dataset(dataset).test)
    shuffled = dataset.interactions.with_columns(timestamp=random.permutation(dataset.times_E))
    for times, fault in ((shuffled, "look shuffled"), (shuffled.with_columns(timestamp=DAY), "have one time")):
        orderless = Dataset("orderless", times, dataset.catalogue)
        with pytest.raises(ThinkrankError, match=rf"{fault}[^\n]*leave-last-out"):
            split_dataset(orderless)
        assert len(split_dataset(orderless, "leave-last-out").test) == 600


def test_an_order_without_times_can_be_split_by_it_alone(build_dataset, tmp_path):
    timed = build_dataset([("v", "a", 5), ("u", "b", 1), ("v", "c", 2), ("u", "a", 3), ("u", "c", 9)])
    rows = pl.DataFrame({"user": ["v", "u", "v", "u", "u"], "item": ["c", "b", "a", "a", "c"]})
    Dataset("ordered", rows, timed.catalogue).save(tmp_path)
    dataset = Dataset.load(tmp_path)
    split = split_dataset(dataset, "leave-last-out")
    assert split.test.requests().times_B is None
    assert split.test[0].history.times is None
    assert split.test[0].history.items.tolist() == split_dataset(timed, "leave-last-out").test[0].history.items.tolist()
    manifest = split.manifest()
    assert (manifest["time_granularity"], manifest["parts"]["test"]["dates"], dataset.describe()["dates"]) == (
        None,
    ) * 3
    with pytest.raises(ThinkrankError, match="no times to cut by"):
        split_dataset(dataset)


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.2, -0.1, -0.1)])
def test_fractions_must_part_one(dataset, fractions):
    with pytest.raises(ThinkrankError, match="at least 0 and sum to 1"):
        split_dataset(dataset, fractions=fractions)


def test_an_unknown_kind_names_the_nearest(dataset):
    with pytest.raises(ThinkrankError, match="unknown split 'temproal'; nearest: temporal"):
        split_dataset(dataset, "temproal")


def test_single_events_predict_nothing(build_dataset):
    with pytest.raises(ThinkrankError, match="no user has two interactions"):
        split_dataset(build_dataset([("u", "a", 1), ("v", "a", 2)]))


def test_samples_are_a_sequence(dataset):
    samples = split_dataset(dataset, fractions=(1.0, 0.0, 0.0)).train
    assert len(samples) == 7
    assert samples[-1].time == 90
    assert samples[np.int64(0)].time == samples.times[0]
    assert samples[1:3].positions.tolist() == samples.positions[1:3].tolist()
    assert [len(history) for history in samples.histories()] == [len(sample.history) for sample in samples]
    with pytest.raises(IndexError):
        samples[7]


def test_a_rating_comes_with_its_sample(catalogue):
    frame = pl.DataFrame({"user": "u", "item": ["i1", "i2", "i3"], "timestamp": [1, 2, 3], "rating": [1.0, 2.0, None]})
    samples = split_dataset(Dataset("rated", frame, catalogue), fractions=(1.0, 0.0, 0.0)).train
    assert [sample.rating for sample in samples] == [2.0, None]
    assert samples[1].history.ratings.tolist() == [1.0, 2.0]


@given(n=st.integers(0, 12), seed=st.integers(0, 5))
def test_a_subset_is_drawn_without_replacement_in_order_and_again_the_same(build_dataset, n, seed):
    samples = split_dataset(build_dataset([("u", "a", t) for t in range(11)]), fractions=(1.0, 0.0, 0.0)).train
    subset = samples.subset(n, seed)
    assert len(subset) == min(n, 10)
    assert np.all(np.diff(subset.positions) > 0)
    assert subset.positions.tolist() == samples.subset(n, seed).positions.tolist()
    if n >= 10:
        assert subset is samples


def test_every_sample_is_as_likely_to_be_in_a_subset(build_dataset):
    samples = split_dataset(build_dataset([("u", "a", t) for t in range(11)]), fractions=(1.0, 0.0, 0.0)).train
    drawn = Counter(int(p) for seed in range(400) for p in samples.subset(3, seed).positions)
    assert all(80 < drawn[position] < 160 for position in range(1, 11))  # 120 expected, 4.4 deviations


def test_the_manifest_says_how_to_do_it_again(dataset):
    manifest = split_dataset(dataset, "leave-last-out").manifest()
    json.dumps(manifest)
    assert manifest["kind"] == "leave-last-out"
    assert manifest["fingerprint"] == dataset.fingerprint
    assert manifest["parts"]["test"] == {
        "samples": 2,
        "users": 2,
        "items": 1,
        "dates": {"first": "1970-01-01T00:00:50+00:00", "last": "1970-01-01T00:01:30+00:00"},
        # Ann's and Bob's last is d, which only Cy met in training.
        "cold_target_share": 0.0,
        "tied_target_share": 0.0,
        "empty_history_share": 0.0,
    }


def test_targets_never_seen_in_training_are_counted_as_cold(build_dataset):
    events = [("u", "a", 1), ("u", "b", 2), ("u", "c", 3), ("u", "b", 4)]
    manifest = split_dataset(build_dataset(events), fractions=(1 / 3, 1 / 3, 1 / 3)).manifest()
    assert [manifest["parts"][name]["cold_target_share"] for name in ("train", "valid", "test")] == [0.0, 1.0, 0.0]
