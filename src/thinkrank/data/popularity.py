"""How often an item was chosen, in words that a prompt can show."""

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.splits import Split

COLUMN = "popularity"
LEVELS = (
    (1.0, ("popular", "widely chosen", "a common choice")),
    (0.0, ("fairly popular", "often chosen")),
    (-1.0, ("not often chosen", "less known")),
    (float("-inf"), ("rarely chosen", "little known")),
)
"""Least log of a train count against the catalogue's mean, and ways to say it; prompts take the first."""


def log_popularity(counts_I: Int64[np.ndarray, "I"]) -> Float64[np.ndarray, "I"]:
    """Compute the log of each item's train count against the catalogue's mean, both with one more.

    0 is the mean item.
    """
    smoothed_I = counts_I + 1.0
    return np.log(smoothed_I / smoothed_I.mean()) if len(counts_I) else smoothed_I


def ways_to_say(popularity: float) -> tuple[str, ...]:
    """Return the words for one value of `log_popularity`."""
    return next(ways for least, ways in LEVELS if popularity >= least)


def with_popularity(split: Split) -> Catalogue:
    """Add a column ``popularity`` in words to the catalogue, by what training may see.

    A column of that name is replaced: who counted it may have looked at what is held out. What a training sample took
    is counted as well, so on sparse data its words are a little kinder than those of an unseen choice will be.
    """
    catalogue = split.dataset.catalogue
    words = [ways_to_say(value)[0] for value in log_popularity(split.train_counts).tolist()]
    return Catalogue(catalogue.frame.with_columns(pl.Series(COLUMN, words, dtype=pl.String)))
