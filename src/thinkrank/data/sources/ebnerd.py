"""EB-NeRD, Ekstra Bladet's news: lists of articles, which of them were clicked, and 21 days of clicks before.

The official files are `articles.parquet` and, in the folders train and validation, `behaviors.parquet` (impression_id,
user_id, impression_time, article_ids_inview, article_ids_clicked, device_type, ...) and `history.parquet` (user_id,
article_id_fixed, impression_time_fixed, ...). What they say of later times (next_read_time, total_pageviews, ...) is
not read.
"""

from pathlib import Path

import numpy as np
import polars as pl

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.columns import id_lists, refuse_type
from thinkrank.data.histories import Histories
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.reading import DataFile, Files, Table, read_records
from thinkrank.data.sources._assemble_lists import (
    HOUR,
    LIST,
    ListOptions,
    LongLists,
    assemble,
    catalogue_of,
    hour_columns,
    rows_of,
    without_untold,
)
from thinkrank.data.timestamps import FINE, read_times
from thinkrank.data.validation import parse_ids
from thinkrank.errors import ThinkrankError

NAME = "ebnerd"
_DEVICES = {1: "desktop", 2: "mobile", 3: "tablet"}
_CATEGORIES = ("category", "article_type", "sentiment_label")
_NUMERIC = ("log_age", "premium", "sentiment_score")


class EbnerdOptions(ListOptions):
    """Options of the source ``ebnerd``."""


def load_ebnerd(path: Path, options: EbnerdOptions) -> ImpressionDataset:
    """Read one list per impression; its signal is ``click``. Train and validation are read as one.

    A history is what the user clicked in the weeks before the part began: the same for all lists of the part. Numeric
    features are ``log_age`` (of hours since the article came out), ``premium`` and ``sentiment_score``; the context is
    the device and the hour (UTC). Clicked articles that were not in view count for nothing. The test part, without
    article_ids_clicked, holds lists that are only to be answered.
    """
    files = Files.at(path)
    behaviors = files.require_all("behaviors.parquet")
    histories = files.find("history.parquet")
    if len(histories) != len(behaviors):
        raise ThinkrankError(f"{path}: {len(behaviors)} behaviors.parquet and {len(histories)} history.parquet")
    lists = pl.concat([_read_behaviors(file).with_columns(part=pl.lit(part)) for part, file in enumerate(behaviors)])
    history = pl.concat([_read_history(file).with_columns(part=pl.lit(part)) for part, file in enumerate(histories)])
    article_file = files.one("articles.parquet")
    articles = _read_articles(article_file) if article_file else None
    catalogue = catalogue_of([lists["items"].explode(), history["items"].explode()], articles)
    read = [*behaviors, *histories, *([article_file] if article_file else [])]
    return assemble(NAME, _long(lists, articles), catalogue, _histories(catalogue, lists, history), options, files=read)


def _read_behaviors(file: DataFile) -> pl.DataFrame:
    table = Table.gather(file.name, read_records(file))
    table.require("user_id", "impression_time", "article_ids_inview", "device_type")
    nothing = {"article_ids_clicked": pl.lit(None, pl.List(pl.String)), "impression_id": pl.lit(None, pl.String)}
    lacking = {name: empty for name, empty in nothing.items() if name not in table.frame.columns}
    table = table.with_frame(table.frame.with_columns(**lacking))
    table = parse_ids(table.with_frame(table.frame.rename({"user_id": "user"})), "user")
    table = read_times(table, "impression_time")
    table = id_lists(id_lists(table, "article_ids_inview"), "article_ids_clicked")
    return table.frame.select(
        "user",
        pl.col("impression_time").alias("time"),
        pl.col(FINE).alias("fine"),
        pl.col("article_ids_inview").alias("items"),
        pl.col("article_ids_clicked").alias("clicked"),
        pl.col("impression_id").cast(pl.String).alias("id"),
        *((pl.col("device_type") == code).fill_null(value=False).alias(name) for code, name in _DEVICES.items()),
    )


def _read_history(file: DataFile) -> pl.DataFrame:
    table = Table.gather(file.name, read_records(file))
    table.require("user_id", "article_id_fixed", "impression_time_fixed")
    table = parse_ids(table.with_frame(table.frame.rename({"user_id": "user"})), "user")
    times = table.frame.schema["impression_time_fixed"]
    if times not in (pl.List(pl.Datetime("us")), pl.List(pl.Datetime("ms")), pl.List(pl.Datetime("ns"))):
        raise ThinkrankError(f"{file.name}: impression_time_fixed is {times}. Give lists of dates with times.")
    table = id_lists(table, "article_id_fixed")
    unequal = pl.col("article_id_fixed").list.len() != pl.col("impression_time_fixed").list.len()
    table = table.without(unequal, "has not as many times as articles. Mend or remove the row.")
    return table.frame.select(
        "user",
        pl.col("article_id_fixed").alias("items"),
        pl.col("impression_time_fixed").list.eval(pl.element().dt.epoch("s")).alias("times"),
    )


def _read_articles(file: DataFile) -> pl.DataFrame:
    table = Table.gather(file.name, read_records(file))
    table.require("article_id", "title", "subtitle", "published_time", "category_str", *_CATEGORIES[1:], *_NUMERIC[1:])
    for column in ("article_id", "title", "subtitle", "category_str", *_CATEGORIES[1:], *_NUMERIC[1:]):
        refuse_type(table, column)
    published = table.frame["published_time"]
    if published.dtype not in (pl.Date, pl.Datetime):
        raise ThinkrankError(f"{file.name}: published_time is {published.dtype}. Give dates with times.")
    table = table.with_frame(table.frame.with_columns(published.dt.epoch("s")))
    return table.frame.select(
        pl.col("article_id").cast(pl.String).alias("item"),
        "title",
        pl.col("subtitle").alias("description"),
        pl.concat_list(pl.col("category_str")).list.drop_nulls().alias("categories"),
        "published_time",
        pl.col("premium").cast(pl.Float32),
        pl.col("sentiment_score").cast(pl.Float32),
        pl.col("category_str").alias("category"),
        "article_type",
        "sentiment_label",
    ).unique("item", keep="first")


def _histories(catalogue: Catalogue, lists: pl.DataFrame, history: pl.DataFrame) -> Histories:
    """Find each list's user's history of its part; lists of one user and part share events."""
    history = history.unique(["user", "part"], keep="first", maintain_order=True)
    lengths = history["items"].list.len().fill_null(0).to_numpy().astype(np.int64)
    ends = np.cumsum(lengths)
    events = history.filter(pl.col("items").list.len() > 0).select("items", "times").explode("items", "times")
    owners = history.select("user", "part").with_row_index("owner")
    owner_L = lists.join(owners, on=["user", "part"], how="left", maintain_order="left")["owner"].fill_null(len(ends))
    starts, ends = np.append(ends - lengths, 0), np.append(ends, 0)  # the last is for users without a history
    places_L = owner_L.to_numpy()
    times_E = events["times"].cast(pl.Int64).to_numpy().copy()
    return Histories(rows_of(catalogue, events["items"]), times_E, starts[places_L], ends[places_L])


def _long(lists: pl.DataFrame, articles: pl.DataFrame | None) -> LongLists:
    lists = lists.with_row_index(LIST)
    slots = lists.select(pl.col(LIST).cast(pl.Int64), "clicked", "time", item="items").explode("item")
    slots = (
        slots.drop_nulls("item").with_columns(pl.col("item").is_in(pl.col("clicked")).alias("click")).drop("clicked")
    )
    described = lists.select("user", "time", "id", *_DEVICES.values(), *hour_columns(pl.col("time")))
    described = described if lists["id"].null_count() == 0 else described.drop("id")
    signals = () if lists["clicked"].null_count() == lists.height else ("click",)
    context = (*_DEVICES.values(), *HOUR)
    if articles is None:
        return without_untold(LongLists(lists=described, slots=slots, signals=signals, context=context))
    hours = (pl.col("time") - pl.col("published_time")) / 3600
    slots = slots.join(articles, on="item", how="left", maintain_order="left")
    slots = slots.with_columns(hours.clip(lower_bound=0).log1p().alias("log_age"))
    long = LongLists(
        lists=described, slots=slots, signals=signals, numeric=_NUMERIC, categorical=_CATEGORIES, context=context
    )
    return without_untold(long)
