"""MIND, Microsoft's news: lists of headlines, several of them clicked, and what the user had clicked before.

The official files are `behaviors.tsv` (impression id, user, time, history, impressions as ``N12-1 N7-0``) and
`news.tsv` (id, category, subcategory, title, abstract, ...), neither with a header. A smaller layout with one row per
list is read too: `lists.parquet` with user_id, timestamp, hist, items and clicks. MIND shuffled the slots, so the
displayed order means nothing.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from thinkrank.data.columns import id_lists
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.reading import ROW, DataFile, Files, Table, read_delimited, read_records
from thinkrank.data.sources._assemble_lists import (
    HOUR,
    LIST,
    ListOptions,
    LongLists,
    assemble,
    catalogue_of,
    histories_from_text,
    hour_columns,
    without_untold,
)
from thinkrank.data.timestamps import read_times
from thinkrank.data.validation import parse_ids
from thinkrank.errors import ThinkrankError

NAME = "mind"
_BEHAVIORS = ("impression", "user_id", "timestamp", "hist", "shown")
_NEWS = ("item", "category", "subcategory", "title", "description", "url", "title_entities", "abstract_entities")
_TIME = "%m/%d/%Y %I:%M:%S %p"
_SHOWN = r"^\S+-[01]( \S+-[01])*$"
_UNTOLD = r"^[^\s-]+( [^\s-]+)*$"


class MindOptions(ListOptions):
    """Options of the source ``mind``."""


def load_mind(path: Path, options: MindOptions) -> ImpressionDataset:
    """Read one list per impression; its signal is ``click``. Several folders (train and dev) are read as one.

    Lists of the test part do not say what was clicked: alone they are lists that are only to be answered. Histories
    have no times. Times are taken as UTC. Where there is `news.tsv`, category and subcategory are categories of a
    candidate, and headline and abstract go into the catalogue.
    """
    files = Files.at(path)
    found = files.find("lists.parquet") or files.find("behaviors.tsv", "behaviors.tsv.gz")
    if not found:
        files.require("behaviors.tsv", "lists.parquet")
    lists = pl.concat(_read_lists(file) if file.name == "lists.parquet" else _read_behaviors(file) for file in found)
    news_files = files.find("news.tsv", "news.tsv.gz")
    news = _read_news(news_files) if news_files else None
    history_ids = lists["hist"].unique().str.extract_all(r"\S+").explode()
    catalogue = catalogue_of([lists["items"].explode(), history_ids], news)
    histories = histories_from_text(catalogue, lists["hist"])
    return assemble(NAME, _long(lists, news), catalogue, histories, options, [*found, *news_files])


def _read_lists(file: DataFile) -> pl.DataFrame:
    table = Table.gather(file.name, read_records(file))
    table.require("user_id", "timestamp", "hist", "items", "clicks")
    table = parse_ids(table.with_frame(table.frame.rename({"user_id": "user"})), "user")
    table = id_lists(id_lists(table, "hist"), "items")
    clicks = table.frame.schema["clicks"]
    if not isinstance(clicks, pl.List) or not (clicks.inner.is_numeric() or clicks.inner == pl.Boolean):
        raise ThinkrankError(f"{file.name}: clicks is {clicks}. Give lists of numbers.")
    unequal = pl.col("items").list.len() != pl.col("clicks").list.len()
    table = table.without(unequal, "has not as many clicks as items. Mend or remove the row.")
    table = read_times(table, "timestamp")
    return table.frame.select(
        pl.col("user").alias("user_id"),
        "timestamp",
        pl.col("hist").list.join(" ").fill_null(""),
        "items",
        pl.col("clicks").cast(pl.List(pl.Float32)),
        id=pl.lit(None, pl.String),
    )


def _read_behaviors(file: DataFile) -> pl.DataFrame:
    blocks = read_delimited(file, separator="\t", header=_BEHAVIORS, quoted=False)
    table = Table.gather(file.name, blocks)
    written = pl.col("shown").str.strip_chars()
    told = not table.frame.height or not table.frame.select(written.str.contains(_UNTOLD).all()).item()
    unlabelled = ~written.str.contains(_SHOWN).fill_null(value=False)
    table = parse_ids(table, "user_id")
    table = table.without(
        unlabelled & told,
        "impressions {value} do not say what was clicked (N12-1 N7-0). Lists of the test part stand in a file of their "
        "own.",
        show="shown",
    )
    seconds = pl.col("timestamp").str.strip_chars().str.to_datetime(_TIME, strict=False).dt.epoch("s")
    table = table.without(
        seconds.is_null(), "time {value} is not like 11/15/2019 8:55:22 AM. Mend or remove the row.", show="timestamp"
    )
    shown = pl.col("shown").str.strip_chars().str.split(" ")
    return table.frame.select(
        "user_id",
        seconds,
        pl.col("hist").fill_null("").str.strip_chars(),
        (shown.list.eval(pl.element().str.slice(0, pl.element().str.len_chars() - 2)) if told else shown).alias(
            "items"
        ),
        shown.list.eval(pl.element().str.ends_with("-1").cast(pl.Float32) if told else pl.lit(None, pl.Float32)).alias(
            "clicks"
        ),
        id=pl.col("impression").cast(pl.String),
    )


def _read_news(files: Sequence[DataFile]) -> pl.DataFrame:
    """Read category, subcategory and texts of each item, from as many files as there are."""
    tables = [
        Table.gather(file.name, read_delimited(file, separator="\t", header=_NEWS, quoted=False)) for file in files
    ]
    frame = pl.concat([table.frame for table in tables]).drop(ROW).unique("item", keep="first", maintain_order=True)
    categories = pl.concat_list("category", "subcategory").list.drop_nulls().alias("categories")
    return frame.select("item", "title", categories, "description", "category", "subcategory")


def _long(lists: pl.DataFrame, news: pl.DataFrame | None) -> LongLists:
    lists = lists.with_row_index(LIST)
    slots = lists.select(pl.col(LIST).cast(pl.Int64), item="items", click="clicks").explode("item", "click")
    categorical: tuple[str, ...] = ()
    if news is not None:
        categorical = ("category", "subcategory")
        slots = slots.join(news.select("item", *categorical), on="item", how="left", maintain_order="left")
    described = lists.select(user="user_id", time="timestamp", id="id").with_columns(hour_columns(pl.col("time")))
    described = described if lists["id"].null_count() == 0 else described.drop("id")
    signals = () if slots.height and slots["click"].null_count() == slots.height else ("click",)
    long = LongLists(lists=described, slots=slots, signals=signals, categorical=categorical, context=HOUR)
    return without_untold(long)
