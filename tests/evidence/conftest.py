"""Histories of some people over nine items, with repeats, equal times and somebody who chose nothing."""

import numpy as np
import polars as pl
import pytest

from thinkrank.data import Catalogue, History
from thinkrank.evidence import Crowd, Reasons

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


FILMS = (
    ("Alpha Station", ["Sci-Fi"], 1995),
    ("Beta (Part 2) [x.*]", ["Sci-Fi", "War"], 1996),
    ("Gamma Ray", ["War"], 1979),
    ("Delta Blues", ["Drama"], 1985),
    ("Epsilon", ["Drama"], 1986),
    ("Zeta Club", ["Comedy"], 1995),
    ("Eta Carinae", ["Comedy"], 1942),
    ("Nobody Came", ["Romance"], 1990),
    ("Theta Waves", ["Romance"], 1990),
)


@pytest.fixture(scope="session")
def cinema() -> tuple[list[History], Catalogue]:
    """Sixty people: a third like the first three films, in this order, a third the next two, all some others."""
    random, histories = np.random.default_rng(1), []
    for person in range(60):
        liked = ([0, 1, 2], [3, 4], [])[person % 3]
        rest = random.choice([2, 3, 5, 6, 8], size=2, replace=False)
        histories.append(History.of([*liked, *(int(item) for item in rest if item not in liked)]))
    titles, categories, years = zip(*FILMS, strict=True)
    ids = [f"f{row}" for row in range(len(FILMS))]
    return histories, Catalogue(pl.DataFrame({"item": ids, "title": titles, "categories": categories, "year": years}))


@pytest.fixture(scope="session")
def reasons(cinema) -> Reasons:
    histories, catalogue = cinema
    return Reasons(Crowd(histories, len(catalogue)), catalogue, "film")
