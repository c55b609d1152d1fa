"""Long tables in parts: what is sorted or looked at together stays small, and lies together in memory."""

import io
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import polars as pl

ROWS_AT_ONCE = 1 << 20
"""Rows that are sorted or looked at together; shorter tables are left as they are."""


def compact(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the same rows with their texts side by side, and nothing of the tables they were taken from."""
    file = io.BytesIO()
    frame.write_ipc(file, compression="uncompressed")
    return pl.read_ipc(file.getvalue())


def gathered(
    blocks: Iterable[pl.DataFrame], *, how: Literal["vertical", "diagonal_relaxed"] = "vertical"
) -> list[pl.DataFrame]:
    """Collect blocks of rows; as soon as there are `ROWS_AT_ONCE`, they become one.

    Args:
        blocks: one after the other.
        how: whether all have the same columns, or some may lack one.
    """
    kept: list[pl.DataFrame] = []
    held: list[pl.DataFrame] = []
    for block in blocks:
        held.append(block)
        if sum(frame.height for frame in held) >= ROWS_AT_ONCE:
            kept.append(compact(pl.concat(held, how=how)))
            held = []
    return kept + held


def slices(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield a table `ROWS_AT_ONCE` at a time."""
    yield from frame.iter_slices(ROWS_AT_ONCE)


def in_parts(frame: pl.DataFrame, by: str) -> Iterator[pl.DataFrame]:
    """Deal the rows out by ranges of a text column, in ascending order; rows that share a value stay together.

    Each part has about `ROWS_AT_ONCE` rows, in their order, unless one value alone has more. A pass over the table puts
    the rows of a part side by side, another reads them.

    Args:
        frame: the rows.
        by: a column without nulls.
    """
    count = -(-frame.height // ROWS_AT_ONCE)
    if count < 2:
        yield frame
        return
    sample = frame[by].gather_every(max(1, frame.height // (256 * count))).sort()
    bounds = sample.gather([len(sample) * part // count for part in range(1, count)]).unique().sort()
    runs, ends = [], []
    for rows in slices(frame):
        part = bounds.search_sorted(rows[by], side="right").alias("__part__")
        run = rows.with_columns(part).sort("__part__", maintain_order=True)
        ends.append(np.searchsorted(run["__part__"].to_numpy(), np.arange(len(bounds) + 1), side="right").tolist())
        runs.append(compact(run.drop("__part__")))
    for number in range(len(bounds) + 1):
        places = [(end[number - 1] if number else 0, end[number]) for end in ends]
        pieces = [run[start:end] for run, (start, end) in zip(runs, places, strict=True)]
        yield pl.concat(pieces, how="vertical")
