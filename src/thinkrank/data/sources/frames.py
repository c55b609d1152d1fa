"""Tables that are in memory already: frames of polars or pandas, or anything that hands out Arrow."""

from typing import Any

import polars as pl

from thinkrank.data.dataset import Dataset
from thinkrank.data.reading import ROW
from thinkrank.data.reading.intake import OnBad
from thinkrank.data.sources._asking import collected, parsed_options
from thinkrank.data.sources.table import NAME, Records, TableOptions, assemble_records
from thinkrank.errors import ThinkrankError


def from_frames(
    interactions: Any,
    items: Any = None,
    *,
    name: str = "frames",
    on_bad: OnBad = "refuse",
    bad_rows: Any = None,
    **options: Any,
) -> Dataset:
    """Make a data set from frames, with the same checks as files.

    Args:
        interactions: a frame of polars or pandas with user, item and timestamp, under these or the usual other names.
        items: a frame with item and title; None lets items go by their ids.
        name: of the data set.
        on_bad: whether rows that can't be right are refused or dropped.
        bad_rows: file for dropped rows; None writes none.
        options: as the source ``table`` takes them: `columns`, `time_unit`, `time_format`, `order_only`, `untitled`.

    Raises:
        ThinkrankError: if something is no frame, or is at fault; row n is the n-th row, from 1.
    """
    asked = parsed_options(NAME, TableOptions, options)
    frames = [Records("interactions", [_numbered(interactions, "interactions")])]
    listed = [] if items is None else [Records("items", [_numbered(items, "items")])]
    how = "thinkrank.data.from_frames(..., on_bad='drop').notices"
    return collected(lambda: assemble_records(name, frames, listed, asked), on_bad, bad_rows, how)


def _numbered(frame: Any, role: str) -> pl.DataFrame:
    return _as_polars(frame, role).drop(ROW, strict=False).with_row_index(ROW, offset=1)


def _as_polars(frame: Any, role: str) -> pl.DataFrame:
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame
    if type(frame).__module__.split(".")[0] == "pandas" and hasattr(frame, "columns"):
        # Column by column: pandas itself needs pyarrow to hand out Arrow.
        columns = {str(name): frame[name].astype(object).where(frame[name].notna(), None) for name in frame.columns}
        return pl.DataFrame({name: pl.Series(name, values.tolist(), strict=False) for name, values in columns.items()})
    if hasattr(frame, "__arrow_c_stream__"):
        return pl.DataFrame(frame)
    raise ThinkrankError(
        f"{role}: {type(frame).__name__} is no frame. Give one of polars or pandas, or a path to a file."
    )
