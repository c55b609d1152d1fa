"""From rows, one per slot, to arrays: the last step of every source of lists.

Shape legend: L lists, R slots of all lists, E events of all histories.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Int32, Int64
from pydantic import Field

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.features import with_running_features
from thinkrank.data.histories import Histories
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.reading import DataFile
from thinkrank.data.text import clean_text
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options

LIST = "list"
_SECONDS_PER_DAY = 86_400


class ListOptions(Options):
    """Options that every source of lists has."""

    min_candidates: int = Field(2, ge=1, description="shorter lists are left out; one item has one order")
    max_candidates: int | None = Field(
        None, ge=1, description="longer lists are left out: the arrays are as wide as the longest"
    )
    running_features: bool = Field(
        True, description="add how often an item was shown and taken before, and whether the user met it"
    )


@dataclass(frozen=True, eq=False)
class LongLists:
    """Lists as two tables.

    Attributes:
        lists: one row per list: ``user`` (text), ``time`` (seconds since 1970), the context columns, if the lists have
            names ``id`` (text), if times are finer than seconds ``fine`` (nanoseconds behind them), if rows are not in
            the order in which lists came ``order`` and, if feedback is complete only later, ``known`` (seconds since
            1970).
        slots: one row per slot, those of a list in displayed order: ``list`` (its row in `lists`), ``item`` (text), and
            the columns of signals, numeric features and categories (any values; null is unknown) and, where it was
            logged, ``propensity``.
        signals: which columns of `slots` are feedback; null is 0. None for lists that are only to be answered.
        numeric: which are numeric features.
        categorical: which are categories.
        context: which columns of `lists` describe the list.
        notices: what was dropped or repaired so far.
    """

    lists: pl.DataFrame
    slots: pl.DataFrame
    signals: tuple[str, ...]
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def catalogue_of(met: Sequence[pl.Series], items: pl.DataFrame | None = None) -> Catalogue:
    """Collect the items that lists or histories hold, by length of id, then id.

    Args:
        met: ids, in any number.
        items: ``item`` and what else is known of them, repeated ids allowed: the first counts. An item without a title
            goes by its id.
    """
    ids = pl.DataFrame({"item": pl.concat([series.cast(pl.String) for series in met]).drop_nulls().unique()})
    frame = ids.sort(pl.col("item").str.len_bytes(), "item")
    if items is not None:
        known = items.unique("item", keep="first", maintain_order=True)
        frame = frame.join(known, on="item", how="left", maintain_order="left")
    title = clean_text(frame["title"]) if "title" in frame.columns else pl.Series("title", [None] * frame.height)
    return Catalogue(frame.with_columns(title.cast(pl.String).fill_null(frame["item"]).alias("title")))


def rows_of(catalogue: Catalogue, ids: pl.Series) -> Int32[np.ndarray, "E"]:
    """Look up the catalogue row of each id, all of which must be there."""
    rows = ids.cast(pl.String).cast(pl.Enum(catalogue.frame["item"])).to_physical()
    return rows.to_numpy().astype(np.int32)


def histories_from_text(catalogue: Catalogue, texts: pl.Series) -> Histories:
    """Read histories from ids with spaces between them, oldest first; lists with equal texts share events.

    Null is empty.
    """
    frame = pl.DataFrame({"text": texts.fill_null("").str.strip_chars()})
    distinct = frame.unique(maintain_order=True).with_row_index("number")
    numbers_L = frame.join(distinct, on="text", how="left", maintain_order="left")["number"].to_numpy()
    items = distinct.select(pl.col("text").str.extract_all(r"\S+")).to_series()
    ends = np.cumsum(items.list.len().to_numpy(), dtype=np.int64)
    starts = ends - items.list.len().to_numpy()
    events = items.filter(items.list.len() > 0).explode()
    items_E = rows_of(catalogue, events) if len(events) else np.zeros(0, np.int32)
    return Histories(items_E, None, starts[numbers_L], ends[numbers_L])


def hour_columns(times: pl.Expr) -> list[pl.Expr]:
    """Place the second of the day (UTC) as a point on a circle."""
    angle = (times % _SECONDS_PER_DAY) * (2 * np.pi / _SECONDS_PER_DAY)
    return [angle.sin().alias("hour_sin"), angle.cos().alias("hour_cos")]


HOUR = ("hour_sin", "hour_cos")


def assemble(
    name: str,
    long: LongLists,
    catalogue: Catalogue,
    histories: Histories,
    options: ListOptions,
    files: Sequence[DataFile],
    *,
    source: str | None = None,
) -> ImpressionDataset:
    """Drop what cannot be used with a notice, sort by time and build the arrays.

    Args:
        name: the data set's name.
        long: the lists.
        catalogue: holds every item of lists and histories.
        histories: one per row of `long.lists`.
        options: which lists to keep, and whether to add running features.
        files: what was read, for the manifest.
        source: its name; None if the data set is called after it.

    Raises:
        ThinkrankError: if no list is left.
    """
    slots, notices = _without_repeats(long.slots, long.signals)
    keep_L, more = _wanted_lengths(slots, long.lists.height, options)
    notices = [*long.notices, *notices, *more]
    if not keep_L.any():
        why = f" ({'; '.join(notices)})" if notices else ""
        raise ThinkrankError(f"{name}: no lists are left{why}")
    order_L = np.flatnonzero(keep_L)
    times = [long.lists[column].to_numpy()[order_L] for column in ("fine", "time") if column in long.lists.columns]
    order_L = order_L[np.lexsort(times)]
    new_row = np.full(long.lists.height, -1, dtype=np.int64)
    new_row[order_L] = np.arange(len(order_L))
    slots = slots.with_columns(pl.Series(LIST, new_row[slots[LIST].to_numpy()])).filter(pl.col(LIST) >= 0)
    slots = slots.sort(LIST, maintain_order=True)
    lists = long.lists[order_L]
    codes, values = _codes(slots, long.categorical)
    lists_R = slots[LIST].to_numpy()
    users = lists["user"].unique().sort()
    propensities_LN = None
    if "propensity" in slots.columns:
        propensities_LN = _spread(lists_R, _matrix(slots, ("propensity",)))[:, :, 0]
    data = ImpressionDataset(
        name=name,
        catalogue=catalogue,
        items_LN=_spread(lists_R, rows_of(catalogue, slots["item"])[:, None], -1)[:, :, 0],
        feedback_LNS=_spread(lists_R, _matrix(slots, long.signals)),
        signals=long.signals,
        times_L=lists["time"].cast(pl.Int64).to_numpy().copy(),
        users=tuple(users.to_list()),
        users_L=lists["user"].cast(pl.Enum(users)).to_physical().to_numpy().astype(np.int32),
        histories=histories.take(order_L),
        numeric_LNF=_spread(lists_R, _matrix(slots, long.numeric)),
        numeric_names=long.numeric,
        categorical_LNC=_spread(lists_R, codes),
        categorical_names=long.categorical,
        categorical_values=values,
        context_LF=_matrix(lists, long.context),
        context_names=long.context,
        propensities_LN=propensities_LN,
        ids=tuple(lists["id"].cast(pl.String).to_list()) if "id" in lists.columns else None,
        order_L=lists["order"].cast(pl.Int64).to_numpy().copy() if "order" in lists.columns else order_L,
        notices=tuple(notices),
        source={
            "source": source or name,
            "files": [file.name for file in files],
            "options": options.model_dump(mode="json", exclude_defaults=True),
        },
    )
    if not options.running_features:
        return data
    known_L = lists["known"].cast(pl.Int64).to_numpy() if "known" in lists.columns else None
    return with_running_features(data, known_L=known_L)


def without_lists(long: LongLists, gone: pl.Series, what: str) -> LongLists:
    """Drop the slots of these lists (numbers), so that the lists are empty, and say so."""
    if not len(gone):
        return long
    notice = f"dropped {len(gone):,} lists {what}"
    slots = long.slots.filter(~pl.col(LIST).is_in(gone.implode()))
    return replace(long, slots=slots, notices=(*long.notices, notice))


def without_untold(long: LongLists) -> LongLists:
    """Drop lists that do not say what was clicked, such as those of a contest's test part, where others say it."""
    if not long.signals:
        return long
    told = long.slots.group_by(LIST).agg(pl.col("click").is_not_null().any())
    return without_lists(long, told.filter(~pl.col("click"))[LIST].sort(), "that do not say what was clicked")


def _spread(lists_R: Int64[np.ndarray, "R"], values: np.ndarray, fill: int = 0) -> np.ndarray:
    """Spread values of the slots (R, columns) over an array (L, N, columns); every list has a slot."""
    lengths_L = np.bincount(lists_R)
    places_R = np.arange(len(lists_R)) - (np.cumsum(lengths_L) - lengths_L)[lists_R]
    spread = np.full((len(lengths_L), lengths_L.max(), values.shape[1]), fill, dtype=values.dtype)
    spread[lists_R, places_R] = values
    return spread


def _without_repeats(slots: pl.DataFrame, signals: Sequence[str]) -> tuple[pl.DataFrame, list[str]]:
    """Keep the first slot of an item in its list, with the greatest feedback that any of its slots got."""
    first = pl.struct(LIST, "item").is_first_distinct()
    again = slots.height - slots.filter(first).height
    if not again:
        return slots, []
    greatest = [pl.col(signal).cast(pl.Float32).max().over(LIST, "item") for signal in signals]
    notice = (
        f"dropped {again:,} slots that show an item a second time in their list; the first keeps the greatest feedback"
    )
    return slots.with_columns(greatest).filter(first), [notice]


def _wanted_lengths(slots: pl.DataFrame, num_lists: int, options: ListOptions) -> tuple[np.ndarray, list[str]]:
    lengths_L = np.bincount(slots[LIST].to_numpy(), minlength=num_lists)
    short_L = (lengths_L > 0) & (lengths_L < options.min_candidates)
    long_L = lengths_L > (options.max_candidates or lengths_L.max(initial=0))
    notices = []
    for gone_L, what in (
        (short_L, f"fewer than {options.min_candidates}"),
        (long_L, f"more than {options.max_candidates}"),
    ):
        if gone_L.any():
            notices.append(f"dropped {int(gone_L.sum()):,} lists of {what} candidates")
    return (lengths_L > 0) & ~short_L & ~long_L, notices


def _matrix(frame: pl.DataFrame, columns: Sequence[str]) -> np.ndarray:
    if not columns:
        return np.zeros((frame.height, 0), dtype=np.float32)
    matrix = frame.select(pl.col(column).cast(pl.Float32).fill_null(0) for column in columns).to_numpy()
    return np.ascontiguousarray(matrix)


def _codes(slots: pl.DataFrame, columns: Sequence[str]) -> tuple[np.ndarray, tuple[tuple[str, ...], ...]]:
    """Turn categories into numbers from 1, in alphabetical order, and tell what they stand for; null is 0."""
    codes, meanings = np.zeros((slots.height, len(columns)), dtype=np.int32), []
    for index, column in enumerate(columns):
        values = slots[column].cast(pl.String)
        known = values.drop_nulls().unique().sort()
        codes[:, index] = (values.cast(pl.Enum(known)).to_physical().cast(pl.Int32) + 1).fill_null(0).to_numpy()
        meanings.append(tuple(known.to_list()))
    return codes, tuple(meanings)
