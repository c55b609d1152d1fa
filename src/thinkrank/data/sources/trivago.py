"""trivago, RecSys Challenge 2019: up to 25 hotels in displayed order, with prices, and the one that was clicked.

The official files are `train.csv` (user_id, session_id, timestamp, step, action_type, reference, platform, city,
device, current_filters, impressions, prices) and `item_metadata.csv` (item_id, properties). A smaller layout with one
row per list is read too: `lists.parquet` with user_id, timestamp, device, items, prices, clicked_index and history.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.columns import id_lists
from thinkrank.data.histories import Histories
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.reading import ROW, Files, Table, read_delimited, read_records
from thinkrank.data.reading.intake import note
from thinkrank.data.sources._assemble_lists import (
    HOUR,
    LIST,
    ListOptions,
    LongLists,
    assemble,
    catalogue_of,
    histories_from_text,
    hour_columns,
    rows_of,
    without_lists,
)
from thinkrank.data.timestamps import read_times
from thinkrank.data.validation import parse_ids
from thinkrank.errors import ThinkrankError

NAME = "trivago"
_DEVICES = ("desktop", "mobile", "tablet")
_LOG = ("user_id", "session_id", "timestamp", "step", "action_type", "reference", "device", "impressions", "prices")
_ITEM_ACTIONS = r"^(interaction item|clickout item|search for item)"


class TrivagoOptions(ListOptions):
    """Options of the source ``trivago``."""


def load_trivago(path: Path, options: TrivagoOptions) -> ImpressionDataset:
    """Read one list per click-out; its signal ``click`` is 1 for the hotel that was clicked.

    A history is what the user did with hotels earlier in the same session. A numeric feature is ``log_price``; the
    context is the device and the hour (UTC). Lists whose clicked hotel is not among those shown are dropped.
    A folder that has `test.csv` alone gives the click-outs whose hotel is left out there: lists that are only to be
    answered.
    """
    files = Files.at(path)
    if files.find("lists.parquet"):
        return _load_lists(files, options)
    return _load_log(files, options)


def _load_lists(files: Files, options: TrivagoOptions) -> ImpressionDataset:
    file = files.require("lists.parquet")
    table = Table.gather(file.name, read_records(file))
    table.require("user_id", "timestamp", "device", "items", "prices", "clicked_index", "history")
    for column in ("items", "history"):
        table = id_lists(table, column)
    if not isinstance(table.frame.schema["prices"], pl.List) or not table.frame.schema["clicked_index"].is_integer():
        raise ThinkrankError(f"{file.name}: prices must be lists of numbers, clicked_index whole numbers.")
    table = read_times(parse_ids(table.with_frame(table.frame.rename({"user_id": "user"})), "user"), "timestamp")
    table = table.with_frame(table.frame.rename({"user": "user_id"}))
    unequal = pl.col("items").list.len() != pl.col("prices").list.len()
    table = table.without(unequal, "has not as many prices as items. Mend or remove the row.")
    shown = pl.col("clicked_index").is_between(0, pl.col("items").list.len() - 1)
    lists = table.frame.with_columns(pl.col("items", "prices", "history").cast(pl.List(pl.String))).with_columns(
        pl.when(shown).then(pl.col("items").list.get(pl.col("clicked_index"), null_on_oob=True)).alias("clicked")
    )
    catalogue = catalogue_of([lists["items"].explode(), lists["history"].explode()])
    histories = histories_from_text(catalogue, lists["history"].list.join(" "))
    return assemble(NAME, _long(lists), catalogue, histories, options, [file])


def _load_log(files: Files, options: TrivagoOptions) -> ImpressionDataset:
    train, test = (files.one(f"{part}.csv", f"{part}.csv.gz") for part in ("train", "test"))
    file, told = train or test or files.require("train.csv", "train.csv.gz"), train is not None
    blocks = []
    for block in read_delimited(file):
        Table(file.name, block).require(*_LOG)
        # What concerns no hotel (filters, destinations) is left out at once: it is half of the log.
        blocks.append(block.select(*_LOG, ROW).filter(pl.col("action_type").str.contains(_ITEM_ACTIONS)))
    table = read_times(Table.gather(file.name, blocks), "timestamp")
    step = pl.col("step").cast(pl.Int64, strict=False)
    table = table.without(step.is_null(), "step {value} is not a number. Mend or remove the row.", show="step")
    log = table.frame.with_columns(step).sort("user_id", "session_id", "timestamp", "step", maintain_order=True)
    named = pl.col("reference").str.contains(r"^\d+$").fill_null(value=False)
    shown = pl.col("impressions").str.len_bytes() > 0
    unnamed = log.filter(~named & shown).height
    notices = (f"dropped {unnamed:,} lists that do not say what was clicked",) if unnamed and told else ()
    log = log.with_columns(
        event=named.cast(pl.Int64).cum_sum() - named.cast(pl.Int64), session=pl.struct("user_id", "session_id").rle_id()
    )
    lists, log = log.filter(shown & (named if told else ~named)), log.filter(named)
    if lists.is_empty():
        raise ThinkrankError(f"{file.name}: no click-out to answer: none is without a reference")
    lists = lists.with_columns(
        pl.col("impressions").str.split("|").alias("items"),
        pl.col("prices").str.split("|"),
        pl.when(named).then(pl.col("reference")).alias("clicked"),
        pl.concat_str("session_id", pl.col("step").cast(pl.String), separator="/").alias("id"),
    )
    unequal = pl.col("items").list.len() != pl.col("prices").list.len()
    wrong = "has not as many prices as impressions. Mend or remove the row."
    lists = Table(file.name, lists).without(unequal, wrong).frame
    metadata = files.one("item_metadata.csv", "item_metadata.csv.gz")
    items = None
    if metadata:
        properties = Table.gather(metadata.name, read_delimited(metadata))
        properties.require("item_id", "properties")
        items = properties.frame.select(item="item_id", categories=pl.col("properties").str.split("|"))
    catalogue = catalogue_of([lists["items"].explode(), log["reference"]], items)
    long = _long(lists, told=told)
    long = replace(long, notices=(*notices, *long.notices))
    histories = _session_histories(catalogue, log, lists)
    return assemble(NAME, long, catalogue, histories, options, [file, *([metadata] if metadata else [])])


def _session_histories(catalogue: Catalogue, log: pl.DataFrame, lists: pl.DataFrame) -> Histories:
    """Find for each list the events of its session before it, as views of the log."""
    ends_L = lists["event"].to_numpy().astype(np.int64)
    starts_L = np.searchsorted(log["session"].to_numpy(), lists["session"].to_numpy()).astype(np.int64)
    return Histories(rows_of(catalogue, log["reference"]), log["timestamp"].to_numpy().copy(), starts_L, ends_L)


def _long(lists: pl.DataFrame, *, told: bool = True) -> LongLists:
    """Make slots from one row per list, with ``items``, ``prices`` (lists of text) and the id that was ``clicked``.

    Unless it is `told` what was clicked, the lists have no feedback.
    """
    lists = lists.with_row_index(LIST)
    slots = lists.select(LIST, "clicked", item="items", price="prices").explode("item", "price")
    slots = slots.select(
        pl.col(LIST).cast(pl.Int64),
        "item",
        (pl.col("item") == pl.col("clicked")).fill_null(value=False).alias("click"),
        pl.col("price").cast(pl.Float64, strict=False).clip(lower_bound=0).log1p().alias("log_price"),
        unread=pl.col("price").is_not_null() & pl.col("price").cast(pl.Float64, strict=False).is_null(),
    )
    if unread := int(slots["unread"].sum()):
        note(f"{NAME}: {unread:,} prices are not numbers and count as unknown")
    described = lists.select(
        pl.col("user_id").cast(pl.String).alias("user"),
        pl.col("timestamp").alias("time"),
        *((pl.col("device") == device).fill_null(value=False).alias(f"device_{device}") for device in _DEVICES),
        *hour_columns(pl.col("timestamp")),
        *(["id"] if "id" in lists.columns else []),
    )
    long = LongLists(
        lists=described,
        slots=slots,
        signals=("click",) if told else (),
        numeric=("log_price",),
        context=(*(f"device_{device}" for device in _DEVICES), *HOUR),
    )
    if not told:
        return long
    clicked = slots.group_by(LIST).agg(pl.col("click").any())
    missed = clicked.filter(~pl.col("click"))[LIST].sort()
    return without_lists(long, missed, "whose clicked item was not shown")
