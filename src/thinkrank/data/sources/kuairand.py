"""KuaiRand (Pure, 1K, 27K): videos shown one after the other, and twelve kinds of feedback.

The official files are `log_standard_*.csv` (user_id, video_id, time_ms, is_click, long_view, ..., tab) and
`video_features_basic_*.csv` (video_id, author_id, video_type, upload_dt, upload_type, music_type, tag, ...). The log of
random exposures is left out, and so are `video_features_statistic_*.csv`, which count over the whole time, test
included.

KuaiRand has no lists. As in the specification of EGLR (reconstructed there), a list is a block of consecutive exposures
of one user; what was exposed within one millisecond keeps the order of the file.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.columns import number, read_as
from thinkrank.data.features import histories_before
from thinkrank.data.histories import Histories
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.reading import ROW, DataFile, Files, Table, read_delimited
from thinkrank.data.sources._assemble_lists import (
    HOUR,
    LIST,
    ListOptions,
    LongLists,
    assemble,
    catalogue_of,
    hour_columns,
    rows_of,
)
from thinkrank.data.timestamps import FINE, Clock
from thinkrank.data.validation import parse_ids, parse_numbers

NAME = "kuairand"
_SIGNALS = {
    "click": "is_click",
    "long_view": "long_view",
    "like": "is_like",
    "follow": "is_follow",
    "comment": "is_comment",
    "forward": "is_forward",
}
_CATEGORIES = ("author_id", "video_type", "upload_type", "music_type", "tag")
_HOURS_OF_CHINA = 8


class KuaiRandOptions(ListOptions):
    """Options of the source ``kuairand``."""

    length: int = Field(10, ge=2, description="consecutive exposures of a list; what is left over is dropped")
    keep: Literal["mixed", "all"] = Field(
        "mixed", description="lists with at least one click and one slot without, or all"
    )


def load_kuairand(path: Path, options: KuaiRandOptions) -> ImpressionDataset:
    """Cut each user's exposures into lists.

    Signals are ``click``, ``long_view``, ``like``, ``follow``, ``comment`` and ``forward``. A history is what the user
    clicked before the first second of the list, in dropped lists too. Numeric features are ``log_duration`` (of
    seconds) and ``log_age`` (of days since the upload); categories are author, types and first tag of the video; the
    context is the hour in China.
    """
    files = Files.at(path)
    found = files.find("log_standard_*.csv", "log_standard_*.csv.gz")
    if not found:
        files.require("log_standard_*.csv")
    log = pl.concat([_read_log(file) for file in sorted(found, key=lambda file: file.name)])
    log = log.sort("user", "time_ms", maintain_order=True)
    video_file = files.one("video_features_basic_*.csv", "video_features_basic_*.csv.gz")
    videos = _read_videos(video_file) if video_file else None
    blocks = _cut(log, options.length)
    left_over = log.height - blocks.height
    notices = (
        f"dropped {left_over:,} exposures of users' last, fewer than {options.length} (see the option length)",
    ) * (left_over > 0)
    mixed = (pl.col("click") > 0).any() & (pl.col("click") == 0).any()
    if options.keep == "mixed":
        kept = blocks.filter(mixed.over(LIST))
        gone = (blocks.height - kept.height) // options.length
        notices += (f"dropped {gone:,} lists without a click or without another slot (see the option keep)",) * (
            gone > 0
        )
        blocks = kept
    blocks = blocks.with_columns(pl.col(LIST).rle_id().cast(pl.Int64).alias(LIST))
    catalogue = catalogue_of([log["item"]])
    histories = _clicked_before(catalogue, log, blocks)
    long = replace(_long(blocks, videos), notices=notices)
    return assemble(NAME, long, catalogue, histories, options, [*found, *([video_file] if video_file else [])])


def _read_log(file: DataFile) -> pl.DataFrame:
    columns = {"user": "user_id", "item": "video_id", "time_ms": "time_ms", **_SIGNALS}
    clock = Clock("time_ms", "ms")
    frames = []
    for block in read_delimited(file):
        table = Table(file.name, block)
        table.require(*columns.values())
        table = table.with_frame(block.select(*(pl.col(there).alias(here) for here, there in columns.items()), ROW))
        table = parse_ids(parse_ids(clock.read(table), "user"), "item")
        for signal, there in _SIGNALS.items():
            table = parse_numbers(table, signal, empty_is_zero=False)
            table = table.without(pl.col(signal) < 0, f"{there} is not 0 or above. Mend or remove the row.")
        frames.append(table.frame.drop(FINE).with_columns(pl.col(*_SIGNALS).cast(pl.Float32)))
    return Table.gather(file.name, frames).frame.drop(ROW)


def _read_videos(file: DataFile) -> pl.DataFrame:
    table = Table.gather(file.name, read_delimited(file))
    table.require("video_id", "video_duration", "upload_dt", *_CATEGORIES)
    table = read_as(table, "video_duration", number, "numbers")
    table = read_as(
        table, "upload_dt", lambda days: days.str.to_date("%Y-%m-%d", strict=False), "dates like 2022-04-08"
    )
    return table.frame.select(
        pl.col("video_id").alias("item"),
        (pl.col("video_duration").clip(lower_bound=0) / 1000).log1p().alias("log_duration"),
        pl.col("upload_dt").dt.epoch("s").alias("uploaded"),
        *_CATEGORIES[:-1],
        pl.col("tag").str.split(",").list.first(),
    ).unique("item", keep="first")


def _cut(log: pl.DataFrame, length: int) -> pl.DataFrame:
    """Enumerate the full blocks of each user; the log is sorted by user and time."""
    place = pl.int_range(pl.len()).over("user")
    full = place < pl.len().over("user") // length * length
    return (
        log.filter(full)
        .with_columns((place // length).alias("_block"))
        .with_columns(pl.struct("user", "_block").rle_id().alias(LIST))
    )


def _clicked_before(catalogue: Catalogue, log: pl.DataFrame, blocks: pl.DataFrame) -> Histories:
    users = pl.Enum(log["user"].unique().sort())
    clicks = log.filter(pl.col("click") > 0)
    lists = blocks.group_by(LIST, maintain_order=True).agg(pl.col("user", "time_ms").first())
    return histories_before(
        clicks["user"].cast(users).to_physical().to_numpy().astype(np.int64),
        rows_of(catalogue, clicks["item"]),
        clicks["time_ms"].to_numpy() // 1000,
        lists["user"].cast(users).to_physical().to_numpy().astype(np.int64),
        lists["time_ms"].to_numpy() // 1000,
    )


def _long(blocks: pl.DataFrame, videos: pl.DataFrame | None) -> LongLists:
    lists = blocks.group_by(LIST, maintain_order=True).agg(
        pl.col("user").first(),
        (pl.col("time_ms").first() // 1000).alias("time"),
        (pl.col("time_ms").last() // 1000).alias("known"),
    )
    lists = lists.with_columns(hour_columns(pl.col("time") + _HOURS_OF_CHINA * 3600))
    signals = tuple(_SIGNALS)
    if videos is None:
        return LongLists(lists=lists, slots=blocks, signals=signals, context=HOUR)
    slots = blocks.join(videos, on="item", how="left", maintain_order="left")
    days = (lists["time"].gather(slots[LIST]) - slots["uploaded"]) / 86_400
    slots = slots.with_columns(days.clip(lower_bound=0).log1p().alias("log_age"))
    return LongLists(
        lists=lists,
        slots=slots,
        signals=signals,
        numeric=("log_duration", "log_age"),
        categorical=_CATEGORIES,
        context=HOUR,
    )
