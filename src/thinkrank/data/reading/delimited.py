"""CSV and its kin, every value as text."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import NoReturn

import polars as pl

from thinkrank.data.reading.blocks import check_utf8, text_blocks, without_quoted
from thinkrank.data.reading.files import DataFile
from thinkrank.data.reading.table import ROW, reason
from thinkrank.errors import ThinkrankError

# No file holds this byte; it stands in for separators of more than one character, which polars cannot read.
_UNIT_SEPARATOR = "\x1f"


def read_delimited(
    file: DataFile,
    *,
    separator: str = ",",
    encoding: str = "utf-8",
    header: Sequence[str] | None = None,
    quoted: bool = True,
) -> Iterator[pl.DataFrame]:
    """Yield blocks of rows, each value as text, with a column `ROW`. Blank lines are skipped but counted.

    Args:
        file: what to read.
        separator: between the fields; may be longer than one character if not `quoted`.
        encoding: what the bytes mean, by Python's names.
        header: the names of the fields, for a file without a header line.
        quoted: fields may stand in double quotes and then contain separators and line breaks.

    Raises:
        ThinkrankError: if the file cannot be read, is empty, or a row has not as many fields as the header.
    """
    names = None if header is None else list(header)
    field_end = separator if len(separator) == 1 else _UNIT_SEPARATOR
    rows = 0
    for block in text_blocks(file, encoding=encoding, quoted=quoted):
        check_utf8(block, file.name, rows - (names is None))
        block = block.replace(separator.encode(), field_end.encode())
        if names is None:
            line, _, block = block.partition(b"\n")
            names = _header_names(file.name, line, field_end)
        frame, height = _parse(file.name, block, names, field_end, quoted, rows)
        rows += height
        yield frame
    if names is None:
        raise ThinkrankError(f"{file.name}: is empty")


def _header_names(file: str, line: bytes, separator: str) -> list[str]:
    try:
        names = [name.strip() for name in next(csv.reader([line.decode()], delimiter=separator), [])]
    except csv.Error as error:
        hint = "its lines end in carriage returns; save it with newlines" if b"\r" in line.rstrip() else str(error)
        raise ThinkrankError(f"{file}: the header cannot be read ({hint})") from error
    if not any(names):
        raise ThinkrankError(f"{file}: the first line is blank; it should name the columns")
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ThinkrankError(f"{file}: the header names {sorted(repeated)[0]!r} twice. Rename one of them.")
    return names


def _parse(
    file: str, block: bytes, names: list[str], separator: str, quoted: bool, rows_before: int
) -> tuple[pl.DataFrame, int]:
    """Parse one block into a frame, and count the rows it stands for."""
    skeleton = without_quoted(block) if quoted else block
    if quoted and b'"' in skeleton:
        _refuse_open_quote(file, block, rows_before)
    height = skeleton.count(b"\n")
    blanks = _count_blank_lines(skeleton)
    schema = dict.fromkeys(names, pl.String)
    if blanks == height:
        return pl.DataFrame(schema=schema | {ROW: pl.UInt32}), height
    # Polars fills short rows with nulls without a word, so the fields are counted first: cheap for a block, and a long
    # row that makes up for a short one is refused by polars itself.
    if skeleton.count(separator.encode()) != (height - blanks) * (len(names) - 1):
        _refuse_ragged(file, skeleton, names, separator, rows_before)
    leading = len(block) - len(block.lstrip(b"\r\n")) if blanks else 0
    try:
        frame = pl.read_csv(
            io.BytesIO(block[leading:]),
            has_header=False,
            schema=schema,
            separator=separator,
            quote_char='"' if quoted else None,
        )
    except pl.exceptions.PolarsError as error:
        _refuse_ragged(file, skeleton, names, separator, rows_before)
        raise ThinkrankError(f"{file}, near row {rows_before + 1}: cannot be parsed ({reason(error)})") from error
    skipped = block[:leading].count(b"\n")
    frame = frame.with_row_index(ROW, offset=rows_before + skipped + 1)
    if blanks:
        frame = frame.filter(~pl.all_horizontal(pl.col(names).is_null()))
    return frame.select(*names, pl.col(ROW).cast(pl.UInt32)), height


def _count_blank_lines(skeleton: bytes) -> int:
    if b"\n\n" not in skeleton and b"\n\r\n" not in skeleton and not skeleton.startswith((b"\n", b"\r\n")):
        return 0
    return sum(not line.strip(b"\r") for line in skeleton.split(b"\n")[:-1])


def _refuse_open_quote(file: str, block: bytes, rows_before: int) -> NoReturn:
    """Name the first line with an odd quote: the row itself, unless texts before it hold line breaks."""
    row = rows_before + 1 + next(index for index, line in enumerate(block.split(b"\n")) if line.count(b'"') % 2)
    raise ThinkrankError(f"{file}, row {row}: a double quote is never closed. Mend the row; a quote is written twice.")


def _refuse_ragged(file: str, skeleton: bytes, names: list[str], separator: str, rows_before: int) -> None:
    for index, line in enumerate(skeleton.split(b"\n")):
        fields = line.count(separator.encode()) + 1
        if line.strip(b"\r") and fields != len(names):
            row = rows_before + index + 1
            raise ThinkrankError(
                f"{file}, row {row}: {fields} fields where there should be {len(names)}. Mend the row."
            )
