"""The figures by which a reader judges a data set."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from thinkrank.data.reading import parts
from thinkrank.data.reading.intake import filter_by, setting
from thinkrank.data.ties import granularity
from thinkrank.data.timestamps import date_range

if TYPE_CHECKING:
    from thinkrank.data.dataset import Dataset

REPEATS_WORTH_A_WORD = 0.03
"""Share of repeated choices above which it is said that they cannot be recommended."""

_BOUGHT = ("purchase", "order", "buy", "bought", "sale", "transaction", "checkout")
_FEW, _MANY, _SHARE_OF_ONE = 20, 100, 0.05
_TEXTS = ("description", "categories", "price", "brand", "year")


def describe(dataset: "Dataset") -> dict[str, Any]:
    """Return counts, density, dates, history lengths, ratings and text coverage of a data set, ready for JSON.

    ``tied_target_share`` is the share of events, but for each user's first, that have the time of the one before;
    ``ties`` is the rule for them that a split takes by itself, see `Dataset.ties`. ``events`` counts types of event;
    ``repeats`` is the share of events, but for each user's first, with an item that the user took before;
    ``equal_titles`` counts the items that share their title with another.
    """
    num_users, num_items, num_events = len(dataset.offsets) - 1, len(dataset.catalogue), len(dataset.items_E)
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
        "events": event_counts(dataset),
        "repeats": repeated_share(dataset),
        "further_columns": _further_columns(dataset.catalogue.frame),
        "equal_titles": int(dataset.catalogue.frame["title"].is_duplicated().sum()),
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


def event_counts(dataset: "Dataset") -> dict[str, int]:
    """Count the interactions of each type of event, the commonest first; those without one under an empty name."""
    if "event" not in dataset.rows.columns:
        return {}
    found = dataset.rows.each(lambda rows: rows.group_by(pl.col("event").fill_null("")).len())
    counts = found.group_by("event").agg(pl.col("len").sum()).sort("len", "event", descending=[True, False])
    return dict(counts.iter_rows())


def repeated_share(dataset: "Dataset") -> float:
    """Compute the share of events, each user's first left out, with an item that the user took before."""
    offsets, num_events = dataset.offsets, len(dataset.items_E)
    users_E = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    cuts = offsets[np.searchsorted(offsets, np.arange(parts.ROWS_AT_ONCE, num_events, parts.ROWS_AT_ONCE))]
    distinct = sum(  # of a few users at a time: a hash of all events is slow
        pl.Series(users_E[start:end] * len(dataset.catalogue) + dataset.items_E[start:end]).n_unique()
        for start, end in pairwise([0, *cuts.tolist(), num_events])
    )
    return (num_events - distinct) / max(1, num_events - (len(offsets) - 1))


def remarks(dataset: "Dataset", *, repeats: bool = False) -> list[str]:
    """Say what of a data set may surprise whoever trains on it, one line each, with the way out.

    Args:
        dataset: what is trained on.
        repeats: whether items of a history may be recommended again.
    """
    name, found = dataset.name, []
    events, weights = event_counts(dataset), dataset.weights_E
    if weights is not None:
        told = [applied["weights"] for applied in dataset.filters if applied.get("weights")][-1]
        found.append(
            f"{name}: events count {', '.join(f'{event} {weight:g}' for event, weight in told.items())} in popularity, "
            "item-kNN, EASE and ALS; everything else takes them alike"
        )
    elif len(events) > 1:
        counts = ", ".join(f"{event or 'without'} {count:,}" for event, count in events.items())
        named = sorted((event for event in events if event), key=lambda event: events[event])
        wanted = next((event for event in named if any(word in event.casefold() for word in _BOUGHT)), named[0])
        found.append(
            f"{name}: events of {len(events)} types count alike ({counts}); choose some: {filter_by('event', wanted)}"
        )
    share = repeated_share(dataset)
    if share > REPEATS_WORTH_A_WORD and not repeats:
        found.append(
            f"{name}: {share:.0%} of all choices are of something the user took before, which is never recommended "
            f"again; train with {setting('repeats', True, of_source=False)} where it should be, in answers and figures"
        )
    titles = dataset.catalogue.frame
    equal = titles.filter(titles["title"].is_duplicated())
    if equal.height:
        one = equal.filter(equal["title"] == equal["title"][0])["item"].head(2).to_list()
        found.append(
            f"{name}: {equal.height:,} items share a title with another ({equal['title'][0]!r}: {' and '.join(one)})"
        )
    lengths = np.diff(dataset.offsets)
    if len(lengths) > _FEW and lengths.max() >= _MANY and lengths.max() > _SHARE_OF_ONE * lengths.sum():
        user = dataset.users[int(lengths.argmax())]
        found.append(
            f"{name}: user {user!r} has {lengths.max() / lengths.sum():.0%} of all interactions; is that one person?"
        )
    return found


def _further_columns(frame: pl.DataFrame) -> dict[str, str]:
    """Say of each further column in how many rows it holds something, and what first."""
    further = [column for column in frame.columns if column not in ("item", "title", *_TEXTS)]
    shown = {}
    for column in further:
        values = frame[column].drop_nulls()
        examples = ", ".join(str(value)[:30] for value in values.unique(maintain_order=True).head(3))
        shown[column] = f"{len(values) / frame.height:.0%} of items, such as {examples}" if len(values) else "empty"
    return shown


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
