"""One JSON object per line, the wanted fields as text."""

import io
import json
from collections.abc import Iterator, Sequence

import polars as pl

from thinkrank.data.reading.encodings import decoded_blocks
from thinkrank.data.reading.files import DataFile
from thinkrank.data.reading.intake import current, note, report_row
from thinkrank.data.reading.table import ROW, require_columns
from thinkrank.errors import ThinkrankError

_ESCAPES = {r"\"": '"', r"\\": "\\", r"\/": "/", r"\n": "\n", r"\r": "\r", r"\t": "\t"}
_LOOKED_AT = 1000
"""Lines in which the fields are looked up."""


def read_json_lines(
    file: DataFile, fields: Sequence[str] | None = None, *, required: Sequence[str] = (), encoding: str | None = None
) -> Iterator[pl.DataFrame]:
    """Yield blocks of rows with a column `ROW`. Blank lines are skipped but counted.

    Every value comes as text: a number or true as it stands, a list or object as JSON (see `json_texts`), a missing one
    as null. Fields differ in type from row to row in the files this is for, so no type is inferred.

    Args:
        file: what to read.
        fields: which ones; None for those that the first thousand lines have.
        required: fields that one of these lines must have.
        encoding: what the bytes mean, by Python's names; None for UTF-8, or Windows-1252 where they cannot be that.

    Raises:
        ThinkrankError: if the file cannot be read or is empty, or a line is not a JSON object and no intake is open.
    """
    rows = 0
    intake = current()
    if intake is not None:
        intake.has_lines(file.name, 0)
    for block, _ in decoded_blocks(file, encoding=encoding, quoted=False, header=0):
        if not rows:
            present = _present(file.name, block)
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
    except pl.exceptions.PolarsError:
        return _line_by_line(file, block, fields, rows_before), height
    if frame.height == height:
        rows = pl.int_range(rows_before + 1, rows_before + height + 1, dtype=pl.UInt32, eager=True)
    else:
        lines = enumerate(block.split(b"\n"))
        rows = pl.Series([rows_before + index + 1 for index, line in lines if line.strip()], dtype=pl.UInt32)
    return frame.with_columns(rows.alias(ROW)), height


def _line_by_line(file: str, block: bytes, fields: Sequence[str], rows_before: int) -> pl.DataFrame:
    """Read a block of which some line is no JSON object, or holds NaN, which JSON does not know: it is missing."""
    kept: list[tuple[object, ...]] = []
    unknown: list[int] = []

    def missing(name: str) -> None:
        unknown.append(number)

    for number, line in enumerate(block.split(b"\n"), start=rows_before + 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, parse_constant=missing, parse_float=_Number, parse_int=_Number)
            problem = "" if isinstance(value, dict) else f"not a JSON object but {type(value).__name__}"
        except (ValueError, RecursionError) as error:
            problem, value = f"not JSON ({error})", None
        if problem:
            report_row(file, number, f"{problem}. Mend or remove the line.", values=line.decode(errors="replace"))
        else:
            kept.append((*(_as_text(value.get(field)) for field in fields), number))
    if unknown:
        note(f"{file}: {len(unknown):,} values are NaN or infinite and count as missing (first: row {unknown[0]})")
    return pl.DataFrame(kept, schema=dict.fromkeys(fields, pl.String) | {ROW: pl.UInt32}, orient="row")


class _Number(float):
    """A number that is shown as it was written."""

    def __new__(cls, text: str) -> "_Number":
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value if value is None else value.encode(errors="replace").decode()
    return value.text if isinstance(value, _Number) else json.dumps(_bare(value), ensure_ascii=False)


def _bare(value: object) -> object:
    if isinstance(value, dict):
        return {key: _bare(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_bare(part) for part in value]
    return json.loads(value.text) if isinstance(value, _Number) else value


def _present(file: str, block: bytes) -> list[str]:
    """List the fields of the first lines, in the order in which they appear."""
    names: dict[str, None] = {}
    lines = [line for line in block.split(b"\n", _LOOKED_AT)[:_LOOKED_AT] if line.strip()]
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, list) and line is lines[0]:
            raise ThinkrankError(f"{file}: is one JSON list. Write one object in each line.")
        if isinstance(value, dict):
            names |= dict.fromkeys(value)
    if not names and lines:
        _object(file, lines[0])
    return list(names)


def _object(file: str, line: bytes) -> None:
    """Refuse a file whose first lines hold no object."""
    try:
        problem = f"not a JSON object but {type(json.loads(line)).__name__}"
    except (ValueError, RecursionError) as error:
        problem = f"not JSON ({error})"
    raise ThinkrankError(f"{file}, row 1: {problem}. Write one object in each line.")
