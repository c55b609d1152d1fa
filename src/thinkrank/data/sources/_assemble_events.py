"""From two checked files to one data set: the last step of every source."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from thinkrank.data.catalogue import TEXT_COLUMNS, Catalogue
from thinkrank.data.dataset import Dataset
from thinkrank.data.reading import ROW, Table
from thinkrank.data.text import clean_lists, clean_text
from thinkrank.data.timestamps import FINE
from thinkrank.data.validation import Untitled, check_items, drop_repeated_events, drop_unknown_items, settle_untitled


def assemble(
    name: str,
    events: Table,
    items: Table,
    *,
    source: str,
    options: Mapping[str, Any],
    untitled: Untitled = "drop",
    keep_first: bool = False,
) -> Dataset:
    """Clean the texts, drop what cannot be used with a notice, and build the data set.

    The catalogue is ordered by length of id, then id, so numeric ids stand in numeric order and the order of the rows
    in the file makes no difference.

    Args:
        name: the data set's name.
        events: as `read_events` gives them.
        items: ``item``, ``title`` and what else is known, texts uncleaned.
        source: recorded for the manifest, as are
        options: what the source was told.
        untitled: what to do with items without a title.
        keep_first: whether a repeated item id is a notice and not a fault.

    Raises:
        ThinkrankError: if an item id is repeated, or nothing is left.
    """
    items, notices = check_items(items, keep_first=keep_first)
    items = items.with_frame(items.frame.with_columns(_cleaned(items.frame)))
    items, more, untitled_ids = settle_untitled(items, untitled)
    notices += more
    events, more = drop_unknown_items(events, items, untitled_ids)
    notices += more
    events, more = drop_repeated_events(events)
    notices += more
    ordered = items.frame.sort(pl.col("item").str.len_bytes(), "item").drop(ROW)
    return Dataset(
        name=name,
        interactions=events.rows.map(lambda rows: rows.drop(ROW, FINE, strict=False)),
        catalogue=Catalogue(ordered),
        notices=tuple(notices),
        source={"source": source, "files": [events.file, items.file], "options": dict(options)},
    )


def _cleaned(frame: pl.DataFrame) -> list[pl.Series]:
    known = [column for column in TEXT_COLUMNS if column in frame.columns and column != "item"]
    texts = [clean_text(frame[column]) for column in known if frame.schema[column] == pl.String]
    lists = [clean_lists(frame[column]) for column in known if frame.schema[column] == pl.List(pl.String)]
    return texts + lists
