"""CSV and its kin, every value as text."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from thinkrank.data.reading.careful import breaks_inside, careful_rows, well_quoted
from thinkrank.data.reading.encodings import decoded_blocks
from thinkrank.data.reading.files import DataFile
from thinkrank.data.reading.intake import current, note, report_row, setting, takes
from thinkrank.data.reading.table import ROW
from thinkrank.errors import ThinkrankError

# No file holds this byte; it stands in for separators of more than one character, which polars cannot read.
_UNIT_SEPARATOR = "\x1f"
_SEPARATORS = (",", ";", "\t", "|")
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_LOOKED_AT = 200
"""Rows by which the separator is recognised."""


def read_delimited(
    file: DataFile,
    *,
    separator: str | None = None,
    encoding: str | None = None,
    header: Sequence[str] | None = None,
    quoted: bool = True,
    usual: str = ",",
) -> Iterator[pl.DataFrame]:
    """Yield blocks of rows, each value as text, with a column `ROW`. Blank lines are skipped but counted.

    Rows that have not as many fields as the header, or a quote that does not fit, are reported.

    Args:
        file: what to read.
        separator: between the fields; may be longer than one character if not `quoted`. None for the one of comma,
            semicolon, tab and bar that the rows have in common, with a notice where it is not the usual one.
        encoding: what the bytes mean, by Python's names; None for UTF-8, or Windows-1252 where they cannot be that.
        header: the names of the fields, for a file without a header line.
        quoted: fields may stand in double quotes and then contain separators and line breaks.
        usual: the separator of files with this name, taken where several would do.

    Raises:
        ThinkrankError: if the file cannot be read or is empty, or a row is at fault and no intake is open.
    """
    names = None if header is None else list(header)
    lines, rows, field_end = int(names is None), 0, ""
    for raw, _ in decoded_blocks(file, encoding=encoding, quoted=quoted, header=lines):
        block = raw
        if not field_end:
            separator, block, told = _separator(file.name, block, separator, usual)
            field_end = separator if len(separator) == 1 else _UNIT_SEPARATOR
            intake = current()
            if intake is not None:
                intake.has_lines(file.name, lines + told)
        block = block.replace(str(separator).encode(), field_end.encode())
        if names is None:
            line, _, block = block.partition(b"\n")
            names = _header_names(file.name, line, field_end)
        frame, height = _parse(file.name, block, names, field_end, quoted, rows)
        rows += height
        yield frame
    if names is None:
        raise ThinkrankError(f"{file.name}: is empty")


def _separator(file: str, block: bytes, told: str | None, usual: str) -> tuple[str, bytes, int]:
    """Find the separator; a first line ``sep=;``, as Excel writes it, says so itself and is taken off."""
    first, _, rest = block.partition(b"\n")
    first = first.rstrip(b"\r")
    if told is None and first[:4].lower() == b"sep=" and len(first) == 5:
        return first[4:].decode(), rest, 1
    if told is not None:
        return told, block, 0
    sample = block.split(b"\n", _LOOKED_AT + 1)[:_LOOKED_AT]
    lines = [line for line in sample if line.strip()]
    best, most = usual, (0.0, False)
    for candidate in _SEPARATORS:
        in_header = _fields(lines[:1], candidate)
        if not in_header or in_header[0] < 2:
            continue
        counts = Counter(_fields(lines, candidate))
        found = (counts[in_header[0]] / len(lines), candidate == usual)
        if found > most:
            best, most = candidate, found
    if best != usual:
        way_out = f"; name another with {setting('separator', usual)}" if takes("separator") else ""
        note(f"{file}: its fields end in {_NAMES[best]}{way_out}")
    return best, block, 0


def _fields(lines: Sequence[bytes], separator: str) -> list[int]:
    """Count the fields of each line, what stands in quotes left out."""
    return [b"".join(line.split(b'"')[::2]).count(separator.encode()) + 1 for line in lines]


def _header_names(file: str, line: bytes, separator: str) -> list[str]:
    try:
        names = [name.strip() for name in next(csv.reader([line.decode()], delimiter=separator), [])]
    except csv.Error as error:
        hint = "its lines end in carriage returns; save it with newlines" if b"\r" in line.rstrip() else str(error)
        raise ThinkrankError(f"{file}: the header cannot be read ({hint})") from error
    if not any(names):
        raise ThinkrankError(f"{file}: the first line is blank; it should name the columns")
    repeated = {name for name in names if name and names.count(name) > 1}
    if repeated:
        raise ThinkrankError(f"{file}: the header names {sorted(repeated)[0]!r} twice. Rename one of them.")
    return [name or f"column_{place + 1}" for place, name in enumerate(names)]


def _parse(
    file: str, block: bytes, names: list[str], separator: str, quoted: bool, rows_before: int
) -> tuple[pl.DataFrame, int]:
    """Parse one block into a frame, by polars where every row is plain, else row by row; and count its rows."""
    schema: dict[str, Any] = dict.fromkeys(names, pl.String)
    skeleton = well_quoted(block, separator) if quoted else block
    if b'"' not in skeleton or not quoted:
        height = skeleton.count(b"\n")
        blanks = _count_blank_lines(skeleton)
        if blanks == height:
            return pl.DataFrame(schema=schema | {ROW: pl.UInt32}), height
        # Polars fills short rows with nulls without a word, so the fields are counted first: cheap for a block, and a
        # long row that makes up for a short one is refused by polars itself.
        if skeleton.count(separator.encode()) == (height - blanks) * (len(names) - 1):
            frame = _plain(block, schema, separator, quoted, rows_before, blanks)
            if frame is not None:
                if block.count(b"\n") != height:
                    _note_breaks(file, block, separator, rows_before)
                return frame, height
    return _row_by_row(file, block, names, separator, quoted, rows_before)


def _plain(
    block: bytes, schema: dict[str, Any], separator: str, quoted: bool, rows_before: int, blanks: int
) -> pl.DataFrame | None:
    leading = len(block) - len(block.lstrip(b"\r\n")) if blanks else 0
    try:
        frame = pl.read_csv(
            io.BytesIO(block[leading:]),
            has_header=False,
            schema=schema,
            separator=separator,
            quote_char='"' if quoted else None,
        )
    except pl.exceptions.PolarsError:
        return None
    skipped = block[:leading].count(b"\n")
    frame = frame.with_row_index(ROW, offset=rows_before + skipped + 1)
    if blanks:
        frame = frame.filter(~pl.all_horizontal(pl.col(*schema).is_null()))
    return frame.select(*schema, pl.col(ROW).cast(pl.UInt32))


def _row_by_row(
    file: str, block: bytes, names: list[str], separator: str, quoted: bool, rows_before: int
) -> tuple[pl.DataFrame, int]:
    """Parse a block of which some row is odd, and report those that cannot be right."""
    rows, is_escaped = careful_rows(block, separator, quoted=quoted)
    if is_escaped:
        note(f'{file}: its quotes are written \\" and were read as quotes')
    intake, kept = current(), []
    for number, row in enumerate(rows, start=rows_before + 1):
        if row.breaks and intake is not None:
            intake.has_breaks(file, number, row.breaks)
        if row.fields is None:
            kind = "a double quote is never closed, or stands inside a field. Mend the row; a quote is written twice."
            report_row(file, number, kind, values=row.text)
        elif not row.text.strip():
            continue
        elif len(row.fields) == len(names):
            kept.append((*row.fields, number))
        else:
            kind = f"{len(row.fields)} fields where there should be {len(names)}. Mend the row."
            report_row(file, number, kind, values=row.text)
    schema: dict[str, Any] = dict.fromkeys(names, pl.String) | {ROW: pl.UInt32}
    return pl.DataFrame(kept, schema=schema, orient="row"), len(rows)


def _note_breaks(file: str, block: bytes, separator: str, rows_before: int) -> None:
    """Remember which rows hold line breaks, so that lines can be counted as an editor does."""
    intake = current()
    if intake is not None:
        for row, breaks in breaks_inside(block, separator):
            intake.has_breaks(file, rows_before + 1 + row, breaks)


def _count_blank_lines(skeleton: bytes) -> int:
    if b"\n\n" not in skeleton and b"\n\r\n" not in skeleton and not skeleton.startswith((b"\n", b"\r\n")):
        return 0
    return sum(not line.strip(b"\r") for line in skeleton.split(b"\n")[:-1])
