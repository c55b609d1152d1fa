"""What is remembered is what the other said, and it is asked about each history once, however requests are batched."""

from dataclasses import replace

import numpy as np

from thinkrank.data import History, Requests, load_dataset, split_dataset
from thinkrank.recipes.remembered import Remembered, Room, remembering
from thinkrank.retrieve import ItemKNN

DATASET = load_dataset("synthetic", users=20, items=12, styles=3, kinds=4, events=6)


class Counted(ItemKNN):
    asked = 0

    def scores(self, requests):
        self.asked += len(requests)
        return super().scores(requests)


def test_a_history_is_asked_about_once_in_whatever_company_it_comes():
    split = split_dataset(DATASET)
    stage = Counted().fit(split)
    remembered, plain = Remembered(stage), ItemKNN().fit(split)
    histories = [History.of([1, 2]), History.of([]), History.of([2, 1]), History.of([1, 2])]
    for rows, known in (([0, 1], 2), ([3, 2, 1, 0], 3), ([2], 3), ([], 3)):
        asked = Requests([histories[row] for row in rows])
        np.testing.assert_array_equal(remembered.scores(asked), plain.scores(asked))
        assert stage.asked == known


def test_histories_of_events_that_weigh_otherwise_are_two():
    split = split_dataset(DATASET)
    remembered, plain = Remembered(ItemKNN().fit(split)), ItemKNN().fit(split)
    for weights in (None, [1.0, 0.1], [0.1, 1.0]):
        told = None if weights is None else np.array(weights, np.float32)
        asked = Requests([replace(History.of([1, 2]), weights=told)])
        np.testing.assert_array_equal(remembered.scores(asked), plain.scores(asked))


def test_what_finds_no_room_is_asked_anew_and_the_room_is_shared():
    split = split_dataset(DATASET)
    stages = {"first": Counted().fit(split), "second": Counted().fit(split)}
    room = Room(4 * 12 * 3)  # bytes of three histories' scores
    kept = {name: Remembered(stage, room) for name, stage in stages.items()}
    histories = [History.of([row]) for row in range(4)]
    for name, asked in (("first", histories[:2]), ("second", histories[:2]), ("second", histories[:1])):
        for _ in range(2):
            np.testing.assert_array_equal(kept[name].scores(asked), ItemKNN().fit(split).scores(asked))
    assert (stages["first"].asked, stages["second"].asked) == (2, 5)
    assert room.bytes_left == 0
    first, second = remembering(stages).values()
    assert first.room is second.room
    assert first.room.bytes_left > 2**20
