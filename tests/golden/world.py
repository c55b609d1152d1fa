"""Tiny made data, from code and seeds alone. Of the package it uses only what reads and cuts data."""

import numpy as np
import polars as pl

from thinkrank.data import Catalogue, Dataset, Histories, History, ImpressionDataset, ImpressionSplit, split_dataset

COLORS, THINGS = ("red", "blue", "green", "black"), ("car", "boat", "plane", "house", "tree", "dog")
TITLES = [f"{color} {thing}" for color in COLORS for thing in THINGS]
NUM_LISTED = 12


def things() -> Catalogue:
    """24 things whose titles are two words."""
    rows = range(len(TITLES))
    return Catalogue(
        pl.DataFrame(
            {
                "item": [f"i{row:02}" for row in rows],
                "title": TITLES,
                "categories": [[THINGS[row % 6], COLORS[row // 6]] for row in rows],
                "year": [1970 + 2 * row for row in rows],
            }
        )
    )


def walks() -> Dataset:
    """40 users who walk through the things in order, each from another start; i23 is never met."""
    random = np.random.default_rng(0)
    rows = []
    for user in range(40):
        first = int(random.integers(24))
        rows += [(f"u{user:02}", f"i{(first + j) % 23:02}", 10**9 + 10**4 * user + j) for j in range(10)]
    return Dataset("walks", pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row"), things())


def kinds() -> Dataset:
    """60 users who each stay with the kind of thing they began with."""
    random = np.random.default_rng(0)
    rows = []
    for user in range(60):
        thing = user % len(THINGS)
        for j, color in enumerate(random.permutation(len(COLORS))):
            rows.append((f"u{user:02}", f"i{int(color) * len(THINGS) + thing:02}", 10**9 + 10**6 * j + user))
    return Dataset("kinds", pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row"), things())


def walks_split():
    """The walks, cut in time."""
    return split_dataset(walks())


def kinds_split():
    """The kinds, cut in time."""
    return split_dataset(kinds())


def displayed(seed: int = 0, num_lists: int = 80, longest: int = 6) -> ImpressionDataset:
    """Random lists of 1 to `longest` of 12 items with every kind of column; early places and low rows are clicked."""
    random = np.random.default_rng(seed)
    lengths_L = random.integers(1, longest + 1, num_lists)
    lengths_L[0] = longest
    mask_LN = np.arange(longest) < lengths_L[:, None]
    items_LN = np.where(mask_LN, np.argsort(random.random((num_lists, NUM_LISTED)), axis=1)[:, :longest], -1)
    chance_LN = np.where(mask_LN, 0.9 / (1 + np.arange(longest)) * (1 - items_LN / NUM_LISTED), 0)
    feedback_LNS = (random.random((num_lists, longest, 2)) < chance_LN[:, :, None]) * mask_LN[:, :, None]
    feedback_LNS[random.random(num_lists) < 0.1] = 0
    histories = [History.of(random.integers(0, NUM_LISTED, random.integers(0, 5)).tolist()) for _ in range(num_lists)]
    return ImpressionDataset(
        name="displayed",
        catalogue=Catalogue(
            pl.DataFrame({"item": [f"i{row:02d}" for row in range(NUM_LISTED)], "title": TITLES[:NUM_LISTED]})
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


def displayed_split():
    """The lists, cut in time."""
    lists = displayed()
    order = np.argsort(lists.times_L, kind="stable")
    return ImpressionSplit(*(lists.subset(part) for part in np.split(order, [56, 72])))
