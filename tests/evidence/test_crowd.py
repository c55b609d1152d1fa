"""Counts against loops; leaving a user out against counting anew without him."""

import pickle

import numpy as np
import pytest

from thinkrank.data import History, split_dataset
from thinkrank.errors import ThinkrankError
from thinkrank.evidence import Crowd, TransitionOptions, Transitions
from thinkrank.testing import two_tribes

NUM_ITEMS = 9
WAYS = (
    TransitionOptions(),
    TransitionOptions(steps=3, decay=0.5),
    TransitionOptions(steps=20, half_life_days=2),
    TransitionOptions(steps=2, decay=0.3, half_life_days=1),
)


def without(histories, user):
    return [History.of([]) if number == user else history for number, history in enumerate(histories)]


def test_counts_are_those_of_loops(histories, monkeypatch):
    crowd, sets = Crowd(histories, NUM_ITEMS), [set(history.items.tolist()) for history in histories]
    assert crowd.num_people() == sum(map(bool, sets))
    assert crowd.people().tolist() == [sum(i in chosen for chosen in sets) for i in range(NUM_ITEMS)]
    assert crowd.events().tolist() == [sum((h.items == i).sum() for h in histories) for i in range(NUM_ITEMS)]
    monkeypatch.setattr("thinkrank.evidence.crowd._KEPT_COUNTS", 3 * NUM_ITEMS)  # of three items
    few = Crowd(histories, NUM_ITEMS)
    for i in [*range(NUM_ITEMS), 0, 1, 0]:
        assert few.together(i).tolist() == crowd.together(i).tolist()
    assert [*few._together] == [8, 1, 0]  # the newest last
    assert pickle.loads(pickle.dumps(few)).together(1).tolist() == crowd.together(1).tolist()
    for i in range(NUM_ITEMS):
        assert crowd.together(i).tolist() == [sum({i, j} <= chosen for chosen in sets) for j in range(NUM_ITEMS)]


def test_leaving_a_user_out_is_counting_without_him(histories):
    crowd = Crowd(histories, NUM_ITEMS)
    for user in range(len(histories)):
        other = Crowd(without(histories, user), NUM_ITEMS)
        assert crowd.num_people(user) == other.num_people()
        for name in ("people", "events"):
            assert getattr(crowd, name)(user).tolist() == getattr(other, name)().tolist()
        for item in range(NUM_ITEMS):
            assert crowd.together(item, user).tolist() == other.together(item).tolist()
            assert crowd.next_after(item, user).tolist() == other.next_after(item).tolist()


@pytest.mark.parametrize("options", WAYS)
def test_a_pair_counts_once_per_person_by_its_nearest_places(histories, options):
    expected_II = np.zeros((NUM_ITEMS, NUM_ITEMS))
    for history in histories:
        most = np.zeros_like(expected_II)
        for later in range(len(history)):
            last = later - 1 - (0 if history.tied is None else history.tied[later])
            for earlier in range(max(0, last - options.steps + 1), last + 1):
                i, j = history.items[earlier], history.items[later]
                weight = options.decay ** (last - earlier)
                if options.half_life_days is not None:
                    days = (history.times[later] - history.times[earlier]) / 86_400
                    weight *= 0.5 ** (days / options.half_life_days)
                most[i, j] = max(most[i, j], weight * (i != j))
        expected_II += most
    counted = Transitions(histories, NUM_ITEMS, options)
    np.testing.assert_allclose([counted.row(i) for i in range(NUM_ITEMS)], expected_II, atol=1e-12)
    for user in range(len(histories)):
        other = Transitions(without(histories, user), NUM_ITEMS, options)
        for item in range(NUM_ITEMS):
            np.testing.assert_allclose(counted.row(item, user), other.row(item), atol=1e-12)


def test_a_half_life_without_times_is_refused():
    with pytest.raises(ThinkrankError, match="needs the times"):
        Transitions([History.of([0, 1])], 2, TransitionOptions(half_life_days=1))


def test_users_have_their_numbers_in_the_data_set_and_only_training_counts():
    split = split_dataset(two_tribes(), fractions=(0.5, 0.25, 0.25))
    crowd, dataset = Crowd.of(split), split.dataset
    assert crowd.events().tolist() == split.train_counts.tolist()
    for user in range(len(dataset.users)):
        start, end = split.train_ranges[user]
        assert crowd.items(user).tolist() == sorted(set(dataset.items_E[start:end].tolist()))


def test_a_crowd_survives_the_disk_but_for_order(tmp_path, histories):
    crowd = Crowd(histories, NUM_ITEMS)
    crowd.save(tmp_path)
    loaded = Crowd.load(tmp_path)
    assert loaded.events().tolist() == crowd.events().tolist()
    for user in (None, *range(len(histories))):
        assert loaded.people(user).tolist() == crowd.people(user).tolist()
        assert loaded.together(3, user).tolist() == crowd.together(3, user).tolist()
