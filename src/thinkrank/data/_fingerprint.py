"""A hash of what a data set says, whatever files and libraries it went through."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import polars as pl

from thinkrank.data.reading.parts import Rows

_ROWS_AT_ONCE = 1 << 19


def fingerprint(frames: Mapping[str, pl.DataFrame | Rows]) -> str:
    """Return the SHA-256 of the frames' values.

    Values are hashed in a byte layout of our own: UTF-8 text behind its lengths, 64-bit little-endian numbers, -1 or a
    flag for null. File formats, column order, the chunks of a frame and the machine's byte order leave no trace.

    Args:
        frames: by name; row order counts, column order does not.
    """
    digest = hashlib.sha256()
    for name, frame in sorted(frames.items()):
        rows = frame if isinstance(frame, Rows) else Rows(frame)
        digest.update(json.dumps([name, rows.height, sorted(rows.columns)]).encode())
        for column in sorted(rows.columns):
            for part in rows.select(column).even(_ROWS_AT_ONCE):
                for piece in _layout(part.to_series()):
                    digest.update(piece)
    return digest.hexdigest()


def _layout(series: pl.Series) -> list[bytes]:
    if series.dtype == pl.String:
        lengths = series.str.len_bytes().cast(pl.Int64).fill_null(-1)
        text: str = series.str.join("").item()
        return [b"text", _little_endian(lengths), text.encode()]
    if isinstance(series.dtype, pl.List):
        lengths = series.list.len().cast(pl.Int64).fill_null(-1)
        return [b"list", _little_endian(lengths), *_layout(series.filter(series.list.len() > 0).explode())]
    if series.dtype.is_integer() or series.dtype == pl.Boolean:
        return [b"integer", _little_endian(series.is_null().cast(pl.Int64)), _little_endian(series.cast(pl.Int64))]
    if series.dtype.is_float():
        # Adding zero turns -0.0 into 0.0, which compares equal.
        values = series.cast(pl.Float64) + 0.0
        return [b"float", _little_endian(series.is_null().cast(pl.Int64)), _little_endian(values)]
    return _layout(series.cast(pl.String))


def _little_endian(series: pl.Series) -> bytes:
    values = series.fill_null(0).to_numpy()
    return values.astype(np.dtype(values.dtype).newbyteorder("<")).tobytes()
