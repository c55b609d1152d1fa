"""A table in whichever format its name says."""

import io
from collections.abc import Iterator, Sequence

import polars as pl

from thinkrank.data.reading import parts
from thinkrank.data.reading.delimited import read_delimited
from thinkrank.data.reading.files import DataFile, refuse_spreadsheet
from thinkrank.data.reading.jsonlines import read_json_lines
from thinkrank.data.reading.table import ROW, reason
from thinkrank.errors import ThinkrankError

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json")
"""The formats `read_records` knows, each also with ``.gz`` behind it."""


def read_records(
    file: DataFile, *, separator: str | None = None, encoding: str | None = None, fields: Sequence[str] | None = None
) -> Iterator[pl.DataFrame]:
    """Yield blocks of rows with a column `ROW`. Text formats give text; Parquet keeps its types.

    Args:
        file: CSV, TSV, Parquet or JSON lines, by its name; text formats may be compressed with gzip.
        separator: between the fields of CSV and TSV; None for the one that the rows have in common.
        encoding: what the bytes of a text format mean; None to find out.
        fields: which ones to read of JSON lines, whose first line must have them; None for all it has.

    Raises:
        ThinkrankError: if the format is unknown or the file cannot be read.
    """
    suffix = "." + file.name.lower().removesuffix(".gz").rpartition(".")[2]
    if suffix in (".csv", ".tsv"):
        usual = {".csv": ",", ".tsv": "\t"}[suffix]
        return read_delimited(file, separator=separator, encoding=encoding, usual=usual)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return read_json_lines(file, fields, required=fields or (), encoding=encoding)
    if suffix == ".parquet":
        return _read_parquet(file)
    refuse_spreadsheet(file.name)
    raise ThinkrankError(f"{file.name}: unknown format; give a file that ends in {', '.join(TABLE_SUFFIXES)}")


def _read_parquet(file: DataFile) -> Iterator[pl.DataFrame]:
    data = file.read()
    try:
        lazy = pl.scan_parquet(io.BytesIO(data))
        height = lazy.select(pl.len()).collect().item()
        size = parts.ROWS_AT_ONCE if height > parts.ROWS_IN_MEMORY else max(1, height)
        for start in range(0, max(1, height), size):
            frame = lazy.slice(start, size).collect() if size < height else pl.read_parquet(io.BytesIO(data))
            yield frame.drop(ROW, strict=False).with_row_index(ROW, offset=start + 1)
    except pl.exceptions.PolarsError as error:
        raise ThinkrankError(f"{file.name}: not readable as Parquet ({reason(error)})") from error
