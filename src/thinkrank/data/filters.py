"""Smaller data sets from larger ones, each step recorded in `Dataset.filters`.

Every filter returns a new data set and raises a `ThinkrankError` if it would leave nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool
from pydantic import Field, PositiveFloat, field_validator

from thinkrank.data._nearest import did_you_mean
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.dataset import Dataset
from thinkrank.data.describe import event_counts
from thinkrank.data.reading.intake import setting
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options


class FilterOptions(Options):
    """Choose what to keep. Filters apply in this order; None or False leaves one out."""

    event: tuple[str, ...] | dict[str, PositiveFloat] | None = Field(
        None,
        min_length=1,
        description="keep interactions of these types of event, like purchase: one, several, or a table of what each "
        "counts for popularity, item-kNN, EASE and ALS, such as {purchase = 1, view = 0.1}",
    )
    min_title_chars: int | None = Field(
        None, ge=1, description="keep items whose title has at least this many characters"
    )
    max_title_words: int | None = Field(None, ge=1, description="keep items whose title has at most this many words")
    min_rating: float | None = Field(None, description="keep interactions rated at least this; unrated ones go")
    since: date | None = Field(None, description="keep interactions on this day (UTC) or later")
    until: date | None = Field(None, description="keep interactions on this day (UTC) or earlier")
    k_core: int | None = Field(
        None, ge=1, description="keep users and items with at least this many interactions with each other"
    )
    seen_items_only: bool = Field(False, description="keep only items with an interaction left")

    @field_validator("event", mode="before")
    @classmethod
    def _one_or_several(cls, event: Any) -> Any:
        return tuple(part.strip() for part in event.split(",")) if isinstance(event, str) else event


def apply_filters(dataset: Dataset, options: FilterOptions) -> Dataset:
    """Apply the filters that the options ask for.

    Raises:
        ThinkrankError: if a filter leaves nothing, or asks for ratings the data set does not have.
    """
    if options.event is not None:
        dataset = filter_events(dataset, options.event)
    if options.min_title_chars is not None or options.max_title_words is not None:
        dataset = filter_titles(dataset, min_chars=options.min_title_chars, max_words=options.max_title_words)
    if options.min_rating is not None:
        dataset = filter_ratings(dataset, options.min_rating)
    if options.since is not None or options.until is not None:
        dataset = filter_dates(dataset, since=options.since, until=options.until)
    if options.k_core is not None:
        dataset = k_core(dataset, options.k_core)
    if options.seen_items_only:
        dataset = keep_seen_items(dataset)
    return dataset


def filter_events(dataset: Dataset, kinds: Sequence[str] | Mapping[str, float]) -> Dataset:
    """Keep interactions of some types of event.

    Args:
        dataset: whose interactions have types.
        kinds: the types; or what an event of each counts in counting models, see `Dataset.weights_E`.

    Raises:
        ThinkrankError: if the data has no types, or not one of these; names those there are.
    """
    if "event" not in dataset.rows.columns:
        column = setting("columns", {"event": "..."})
        raise ThinkrankError(f"{dataset.name}: has no types of event to choose by. Name the column, as in {column}.")
    known = event_counts(dataset)
    for kind in kinds:
        if kind not in known:
            near = did_you_mean(kind, list(known))
            there = ", ".join(f"{name or '(none)'} {count:,}" for name, count in known.items())
            raise ThinkrankError(f"{dataset.name}: no event {kind!r}{near}; there are {there}")
    record: dict[str, Any] = {"filter": "events", "event": list(kinds)}
    if isinstance(kinds, Mapping):
        record["weights"] = dict(kinds)
    return _keep_events(dataset, pl.col("event").is_in(list(kinds)), record)


def filter_titles(dataset: Dataset, *, min_chars: int | None = None, max_words: int | None = None) -> Dataset:
    """Keep items whose title is neither too short nor too long, and the interactions with them."""
    title = dataset.catalogue.frame["title"]
    keep = np.ones(len(title), dtype=bool)
    if min_chars is not None:
        keep &= (title.str.len_chars() >= min_chars).to_numpy()
    if max_words is not None:
        keep &= (title.str.split(" ").list.len() <= max_words).to_numpy()
    return _keep_items(dataset, keep, {"filter": "titles", "min_chars": min_chars, "max_words": max_words})


def filter_ratings(dataset: Dataset, minimum: float) -> Dataset:
    """Keep interactions rated at least `minimum`."""
    if "rating" not in dataset.rows.columns:
        raise ThinkrankError(f"{dataset.name}: has no ratings, so none can be at least {minimum}")
    keep = (pl.col("rating") >= minimum).fill_null(value=False)
    return _keep_events(dataset, keep, {"filter": "ratings", "minimum": minimum})


def filter_dates(dataset: Dataset, *, since: date | None = None, until: date | None = None) -> Dataset:
    """Keep interactions of the days from `since` to `until`, both included, UTC. The catalogue stays."""
    if not dataset.has_times:
        raise ThinkrankError(f"{dataset.name}: has no times, so no days can be kept: leave since and until out")
    keep = pl.lit(value=True)
    if since is not None:
        keep &= pl.col("timestamp") >= _midnight(since)
    if until is not None:
        keep &= pl.col("timestamp") < _midnight(until) + 24 * 60 * 60
    record = {
        "filter": "dates",
        "since": None if since is None else since.isoformat(),
        "until": None if until is None else until.isoformat(),
    }
    return _keep_events(dataset, keep, record)


def k_core(dataset: Dataset, k: int) -> Dataset:
    """Keep the largest set of users and items that have at least k interactions with each other.

    Users and items with fewer are dropped in turn until none is left; the result does not depend on who goes first.
    Items nobody interacted with are dropped too.
    """
    users_E = np.repeat(np.arange(len(dataset.offsets) - 1), np.diff(dataset.offsets))
    items_E = dataset.items_E
    kept = np.arange(len(items_E))
    while True:
        enough = (np.bincount(users_E[kept])[users_E[kept]] >= k) & (np.bincount(items_E[kept])[items_E[kept]] >= k)
        if enough.all():
            break
        kept = kept[enough]
    record = {"filter": "k-core", "k": k}
    if not len(kept):
        raise _nothing_left(dataset, record)
    keep_E = np.zeros(len(items_E), dtype=bool)
    keep_E[kept] = True
    dataset = replace(dataset, interactions=dataset.rows.where(keep_E))
    return _keep_items(dataset, _seen(dataset), record)


def keep_seen_items(dataset: Dataset) -> Dataset:
    """Drop items nobody interacted with."""
    return _keep_items(dataset, _seen(dataset), {"filter": "seen items"})


def _seen(dataset: Dataset) -> Bool[np.ndarray, "I"]:
    return np.asarray(np.bincount(dataset.items_E, minlength=len(dataset.catalogue)) > 0)


def _keep_items(dataset: Dataset, keep: Bool[np.ndarray, "I"], record: dict[str, Any]) -> Dataset:
    keep_E = keep[dataset.items_E]
    if not keep_E.any():
        raise _nothing_left(dataset, record)
    return replace(
        dataset,
        interactions=dataset.rows.where(keep_E),
        catalogue=Catalogue(dataset.catalogue.frame.filter(pl.Series(keep))),
        filters=(*dataset.filters, record),
    )


def _keep_events(dataset: Dataset, keep: pl.Expr, record: dict[str, Any]) -> Dataset:
    rows = dataset.rows.map(lambda rows: rows.filter(keep))
    if not rows.height:
        raise _nothing_left(dataset, record)
    return replace(dataset, interactions=rows, filters=(*dataset.filters, record))


def _nothing_left(dataset: Dataset, record: dict[str, Any]) -> ThinkrankError:
    settings = ", ".join(f"{name}={value}" for name, value in record.items() if name != "filter" and value is not None)
    return ThinkrankError(f"{dataset.name}: the filter {record['filter']} ({settings}) leaves nothing. Ask for less.")


def _midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
