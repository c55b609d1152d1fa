"""A data set so small and so plain that the right answer is known."""

import polars as pl

from thinkrank.data import Catalogue, Dataset

ITEMS_PER_TRIBE = 5
COLD_ITEM = 2 * ITEMS_PER_TRIBE
"""The catalogue row of the one item that nobody took."""


def two_tribes(users_per_tribe: int = 10) -> Dataset:
    """Two groups of users who share no item: rows 0 to 4 are cook books, 5 to 9 space films, row 10 is new.

    Every user took four of the five items of the tribe, a different one left out and another one first each time.
    """
    titles = [f"Cook book {i}" for i in range(5)] + [f"Space film {i}" for i in range(5)] + ["New arrival"]
    catalogue = pl.DataFrame({"item": [f"i{row:02d}" for row in range(len(titles))], "title": titles})
    rows = [
        (
            f"u{tribe}{user:02d}",
            f"i{ITEMS_PER_TRIBE * tribe + (user + step) % ITEMS_PER_TRIBE:02d}",
            86_400 * (user + step),
        )
        for tribe in range(2)
        for user in range(users_per_tribe)
        for step in range(4)
    ]
    interactions = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    return Dataset("two-tribes", interactions, Catalogue(catalogue))
