"""The figures by which a reader judges a data set."""

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from thinkrank.data.ties import granularity
from thinkrank.data.timestamps import date_range

if TYPE_CHECKING:
    from thinkrank.data.dataset import Dataset

_TEXTS = ("description", "categories", "price", "brand", "year")


def describe(dataset: "Dataset") -> dict[str, Any]:
    """Return counts, density, dates, history lengths, ratings and text coverage of a data set, ready for JSON.

    ``tied_target_share`` is the share of events, but for each user's first, that have the time of the one before;
    ``ties`` is the rule for them that a split takes by itself, see `Dataset.ties`.
    """
    num_users, num_items, num_events = len(dataset.users), len(dataset.catalogue), dataset.interactions.height
    seen, tied_E = len(np.unique(dataset.items_E)), dataset.tied_E
    description: dict[str, Any] = {
        "name": dataset.name,
        "users": num_users,
        "items": num_items,
        "items_seen": seen,
        "items_cold": num_items - seen,
        "interactions": num_events,
        "density": num_events / (num_users * num_items),
        "dates": date_range(dataset.times_E) if dataset.has_times else None,
        "time_granularity": granularity(dataset.times_E) if dataset.has_times else "none: the order of the file",
        "ties": dataset.ties,
        "tied_target_share": float((tied_E > 0).sum() / max(1, num_events - num_users)),
        "history_length": _quantiles(np.diff(dataset.offsets)),
        "text_coverage": _text_coverage(dataset.catalogue.frame),
        "title_words": _quantiles(dataset.catalogue.frame["title"].str.split(" ").list.len().to_numpy()),
        "title_characters": _quantiles(dataset.catalogue.frame["title"].str.len_chars().to_numpy()),
        "fingerprint": dataset.fingerprint,
        "filters": [dict(applied) for applied in dataset.filters],
        "notices": list(dataset.notices),
    }
    if dataset.ratings_E is not None and not np.isnan(dataset.ratings_E).all():
        rated = dataset.ratings_E[~np.isnan(dataset.ratings_E)]
        description["rating"] = _quantiles(rated) | {"missing": num_events - len(rated)}
    return description


def _quantiles(values: np.ndarray) -> dict[str, float]:
    shares = {"min": 0.0, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
    return {name: float(np.quantile(values, share)) for name, share in shares.items()} | {"mean": float(values.mean())}


def _text_coverage(frame: pl.DataFrame) -> dict[str, float]:
    """Compute the share of items that have each kind of text; an empty list of categories counts as none."""
    coverage = {"title": 1.0}
    for column in _TEXTS:
        if column in frame.columns:
            present = frame[column].is_not_null()
            if column == "categories":
                present &= frame[column].list.len().fill_null(0) > 0
            coverage[column] = float(present.sum()) / frame.height
    return coverage
