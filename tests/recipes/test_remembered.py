"""What is remembered is what the other said, and it is asked about each history once, however requests are batched."""

from dataclasses import replace

import numpy as np

from thinkrank.data import History, Requests, load_dataset, split_dataset
from thinkrank.recipes.remembered import Remembered
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
