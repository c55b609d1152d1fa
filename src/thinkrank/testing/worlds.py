"""Worlds so small and so plain that the right answer is known."""

from dataclasses import replace

import numpy as np
import polars as pl

from thinkrank.data import Catalogue, Dataset, Histories, History, ImpressionDataset

ITEMS_PER_TRIBE = 5
COLD_ITEM = 2 * ITEMS_PER_TRIBE
"""The catalogue row of the one item of `two_tribes` that nobody took."""
NUM_ITEMS = 12
"""Items of the catalogue of `random_lists`."""


def two_tribes(users_per_tribe: int = 10) -> Dataset:
    """Make two groups of users who share no item: rows 0 to 4 are cook books, 5 to 9 space films, row 10 is new.

    Every user took four of the five items of the tribe, a different one left out and another one first each time.

    Args:
        users_per_tribe: users of each.
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


def random_lists(
    seed: int = 0, num_lists: int = 20, longest: int = 6, *, grades: int = 1, share_empty: float = 0.2
) -> ImpressionDataset:
    """Draw lists of 1 to `longest` candidates with every kind of column; the first is as long as can be.

    Args:
        seed: of everything.
        num_lists: how many.
        longest: candidates of the longest.
        grades: the highest grade of feedback.
        share_empty: of the lists without any feedback, about.
    """
    random = np.random.default_rng(seed)
    lengths_L = random.integers(1, longest + 1, num_lists)
    lengths_L[0] = longest
    mask_LN = np.arange(longest) < lengths_L[:, None]
    items_LN = np.where(mask_LN, np.argsort(random.random((num_lists, NUM_ITEMS)), axis=1)[:, :longest], -1)
    feedback_LNS = random.integers(0, grades + 1, (num_lists, longest, 2)) * mask_LN[:, :, None]
    feedback_LNS[random.random(num_lists) < share_empty] = 0
    histories = [History.of(random.integers(0, NUM_ITEMS, random.integers(0, 5)).tolist()) for _ in range(num_lists)]
    return ImpressionDataset(
        name="tiny",
        catalogue=Catalogue(
            pl.DataFrame({"item": [f"i{row:02d}" for row in range(NUM_ITEMS)]}).with_columns(title="item")
        ),
        items_LN=items_LN.astype(np.int32),
        feedback_LNS=feedback_LNS.astype(np.float32),
        signals=("click", "like"),
        times_L=random.integers(100, 200, num_lists),
        users=("ann", "bob", "cy"),
        users_L=random.integers(0, 3, num_lists).astype(np.int32),
        histories=Histories.of(histories),
        numeric_LNF=(random.normal(3, 2, (num_lists, longest, 2)) * mask_LN[:, :, None]).astype(np.float32),
        numeric_names=("price", "rate"),
        categorical_LNC=(random.integers(0, 4, (num_lists, longest, 1)) * mask_LN[:, :, None]).astype(np.int32),
        categorical_names=("kind",),
        categorical_values=(("large", "medium", "small"),),
        context_LF=random.normal(0, 1, (num_lists, 1)).astype(np.float32),
        context_names=("hour",),
    )


def widened(lists: ImpressionDataset, more: int) -> ImpressionDataset:
    """Add `more` columns of padding to the same lists."""

    def pad(array: np.ndarray, fill: int) -> np.ndarray:
        return np.pad(array, [(0, 0), (0, more)] + [(0, 0)] * (array.ndim - 2), constant_values=fill)

    return replace(
        lists,
        items_LN=pad(lists.items_LN, -1),
        feedback_LNS=pad(lists.feedback_LNS, 0),
        numeric_LNF=pad(lists.numeric_LNF, 0),
        categorical_LNC=pad(lists.categorical_LNC, 0),
    )
