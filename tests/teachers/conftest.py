"""A cinema of sixteen films that five people visited, and questions about it."""

from collections.abc import Callable, Sequence

import polars as pl
import pytest

from thinkrank.data import Catalogue, Dataset, History, Split, split_dataset
from thinkrank.teachers import Pair

FILMS = [
    ("Fargo", ["Crime", "Drama"], 1996),
    ("Heat", ["Crime", "Action"], 1995),
    ("Casino", ["Crime", "Drama"], 1995),
    ("Clueless", ["Comedy"], 1995),
    ("Alien", ["Horror", "Sci-Fi"], 1979),
    ("Alien Resurrection", ["Horror", "Sci-Fi"], 1997),
    ("Halloween", ["Horror"], 1978),
    ("Brazil", ["Comedy", "Sci-Fi"], 1985),
    ("Casablanca", ["Drama"], 1942),
    ("Rambo", ["Action"], 1985),
    ("Star Trek: Generations", ["Sci-Fi", "Action"], 1994),
    ("Star Trek: First Contact", ["Sci-Fi", "Action"], 1996),
    ("Dirty Dancing", ["Romance"], 1987),
    ("Pretty Woman", ["Comedy", "Romance"], 1990),
    ("Psycho", ["Horror"], 1960),
    ("Nobody Came", ["Romance"], 1990),
]
VISITS = {
    "ann": ["Heat", "Casino", "Rambo", "Fargo", "Clueless"],
    "bob": ["Alien", "Halloween", "Psycho", "Fargo"],
    "cyd": ["Star Trek: Generations", "Alien", "Star Trek: First Contact", "Brazil"],
    "dee": ["Dirty Dancing", "Clueless", "Pretty Woman", "Casablanca"],
    "eve": ["Heat", "Fargo", "Casino", "Alien Resurrection", "Clueless"],
}
HISTORIES = (["Heat", "Casino"], ["Alien", "Halloween", "Psycho"], ["Clueless"], [])


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    titles, categories, years = zip(*FILMS, strict=True)
    ids = [f"f{row}" for row in range(len(FILMS))]
    return Catalogue(pl.DataFrame({"item": ids, "title": titles, "categories": categories, "year": years}))


@pytest.fixture(scope="session")
def split(catalogue: Catalogue) -> Split:
    """Everything anyone did is to learn from."""
    rows = [
        (user, f"f{catalogue.titles.index(title)}", 10**9 + day)
        for user, titles in VISITS.items()
        for day, title in enumerate(titles)
    ]
    interactions = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    return split_dataset(Dataset("cinema", interactions, catalogue), fractions=(1.0, 0.0, 0.0))


@pytest.fixture(scope="session")
def pair(catalogue: Catalogue) -> Callable[..., Pair]:
    """A question by titles."""

    def ask(history: Sequence[str], title: str, *, label: bool = True, position: int = 0) -> Pair:
        row = catalogue.titles.index
        return Pair(position, History.of([row(seen) for seen in history]), row(title), label)

    return ask


@pytest.fixture(scope="session")
def pairs(pair: Callable[..., Pair]) -> list[Pair]:
    """Every film after four histories; every third one is said to have been chosen."""
    return [
        pair(history, title, label=(number + row) % 3 == 0, position=number)
        for number, history in enumerate(HISTORIES)
        for row, (title, _, _) in enumerate(FILMS)
    ]
