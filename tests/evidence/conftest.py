"""Histories of some people over nine items, with repeats, equal times and somebody who chose nothing."""

import numpy as np
import pytest

from thinkrank.data import History

NUM_ITEMS = 9


def some_histories(seed: int = 0, people: int = 12) -> list[History]:
    random = np.random.default_rng(seed)
    histories = [History.of([])]
    for _ in range(people):
        length = int(random.integers(1, 12))
        times = np.sort(random.integers(0, 6, length)) * 86_400
        tied = np.array([np.count_nonzero(times[:place] == times[place]) for place in range(length)], dtype=np.int32)
        items = random.integers(0, NUM_ITEMS, length).astype(np.int32)
        histories.append(History(items, times, tied=tied if random.random() < 0.5 else None))
    return histories


@pytest.fixture(scope="session")
def histories() -> list[History]:
    return some_histories()
