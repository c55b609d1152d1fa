"""Small random impression lists, and the same lists with more padding."""

from dataclasses import replace

import numpy as np
import polars as pl

from thinkrank.data import Catalogue, Histories, History, ImpressionDataset

NUM_ITEMS = 12


def random_lists(
    seed: int = 0, num_lists: int = 20, longest: int = 6, *, grades: int = 1, share_empty: float = 0.2
) -> ImpressionDataset:
    """Lists of 1 to `longest` candidates with every kind of column; the first is as long as can be."""
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
    """The same lists with `more` columns of padding."""

    def pad(array: np.ndarray, fill: int) -> np.ndarray:
        return np.pad(array, [(0, 0), (0, more)] + [(0, 0)] * (array.ndim - 2), constant_values=fill)

    return replace(
        lists,
        items_LN=pad(lists.items_LN, -1),
        feedback_LNS=pad(lists.feedback_LNS, 0),
        numeric_LNF=pad(lists.numeric_LNF, 0),
        categorical_LNC=pad(lists.categorical_LNC, 0),
    )
