"""One JSON object per line, the wanted fields as text."""

import io
import json
from collections.abc import Iterator, Sequence

import polars as pl

from thinkrank.data.reading.blocks import check_utf8, text_blocks
from thinkrank.data.reading.files import DataFile
from thinkrank.data.reading.table import ROW, reason, require_columns
from thinkrank.errors import ThinkrankError

_ESCAPES = {r"\"": '"', r"\\": "\\", r"\/": "/", r"\n": "\n", r"\r": "\r", r"\t": "\t"}


def read_json_lines(
    file: DataFile, fields: Sequence[str] | None = None, *, required: Sequence[str] = (), encoding: str = "utf-8"
) -> Iterator[pl.DataFrame]:
    """Yield blocks of rows with a column `ROW`. Blank lines are skipped but counted.

    Every value comes as text: a number or true as it stands, a list or object as JSON (see `json_texts`), a missing one
    as null. Fields differ in type from row to row in the files this is for, so no type is inferred.

    Args:
        file: what to read.
        fields: which ones; None for those the first line has.
        required: fields the first line must have.
        encoding: what the bytes mean, by Python's names.

    Raises:
        ThinkrankError: if the file cannot be read, is empty, or a line is not a JSON object.
    """
    rows = 0
    for block in text_blocks(file, encoding=encoding):
        check_utf8(block, file.name, rows)
        if not rows:
            present = list(_object(file.name, block.lstrip().split(b"\n", 1)[0], 1))
            require_columns(file.name, present, *required)
            fields = present if fields is None else fields
        frame, height = _parse(file.name, block, fields or [], rows)
        rows += height
        yield frame
    if not rows:
        raise ThinkrankError(f"{file.name}: is empty")


def json_texts(values: pl.Series) -> pl.Series:
    """Turn fields that hold either a JSON list of texts or one plain text into lists of texts; null stays null.

    Lists of lists (old category paths) come out flat. Text is found by its quotes and not decoded as JSON, because a
    plain text that merely looks like a list must not stop the reading.
    """
    value = pl.col("value")
    is_list = value.str.contains(r'^\[\s*["\[\]]')
    quoted = value.str.extract_all(r'"(?:[^"\\]|\\.)*"')
    bare = pl.element().str.strip_prefix('"').str.strip_suffix('"')
    texts = quoted.list.eval(bare.str.replace_many(list(_ESCAPES), list(_ESCAPES.values())))
    lists = pl.when(value.is_null()).then(None).when(is_list).then(texts).otherwise(pl.concat_list("value"))
    return pl.DataFrame({"value": values}).select(lists).to_series().alias(values.name)


def _parse(file: str, block: bytes, fields: Sequence[str], rows_before: int) -> tuple[pl.DataFrame, int]:
    height = block.count(b"\n")
    try:
        frame = pl.read_ndjson(io.BytesIO(block), schema=dict.fromkeys(fields, pl.String))
    except pl.exceptions.PolarsError as error:
        for index, line in enumerate(block.splitlines()):
            if line.strip():
                _object(file, line, rows_before + index + 1)
        raise ThinkrankError(f"{file}, near row {rows_before + 1}: cannot be parsed ({reason(error)})") from error
    if frame.height == height:
        rows = pl.int_range(rows_before + 1, rows_before + height + 1, dtype=pl.UInt32, eager=True)
    else:
        lines = enumerate(block.split(b"\n"))
        rows = pl.Series([rows_before + index + 1 for index, line in lines if line.strip()], dtype=pl.UInt32)
    return frame.with_columns(rows.alias(ROW)), height


def _object(file: str, line: bytes, row: int) -> dict[str, object]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ThinkrankError(f"{file}, row {row}: not JSON ({error}). Mend or remove the line.") from error
    if not isinstance(value, dict):
        raise ThinkrankError(
            f"{file}, row {row}: not a JSON object but {type(value).__name__}. Mend or remove the line."
        )
    return value
