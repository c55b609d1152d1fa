"""Lines of JSON as typed columns, with errors that name the line."""

from collections.abc import Iterator, Mapping
from typing import Literal

import polars as pl

from thinkrank.data import Catalogue
from thinkrank.data.reading import ROW, DataFile, read_json_lines
from thinkrank.errors import ThinkrankError

FieldKind = Literal["number", "item", "flag", "text", "any text"]

_WANTED: dict[FieldKind, str] = {
    "number": "a whole number from 0",
    "item": "the id of an item in the catalogue",
    "flag": "true or false",
    "text": "a text",
    "any text": "a text or null",
}


def read_lines(file: DataFile, fields: Mapping[str, FieldKind], catalogue: Catalogue) -> Iterator[tuple[object, ...]]:
    """Yield the fields of each line in the order asked for; of an item its catalogue row.

    Raises:
        ThinkrankError: if the file can't be read, or naming the first line that is no object or has a wrong field.
    """
    for frame in read_json_lines(file, list(fields), required=list(fields)):
        yield from _typed(file.name, frame, fields, catalogue).iter_rows()


def _typed(file: str, frame: pl.DataFrame, fields: Mapping[str, FieldKind], catalogue: Catalogue) -> pl.DataFrame:
    typed = frame.select(_cast(field, kind, catalogue) for field, kind in fields.items())
    for field, kind in fields.items():
        wrong = frame.filter(typed[field].is_null() & (kind != "any text"))
        if wrong.height:
            found, row = wrong[field][0], wrong[ROW][0]
            raise ThinkrankError(f"{file}, row {row}: {field} is {found!r}, not {_WANTED[kind]}. Mend the line.")
    return typed


def _cast(field: str, kind: FieldKind, catalogue: Catalogue) -> pl.Expr:
    column = pl.col(field)
    match kind:
        case "number":
            number = column.cast(pl.Int64, strict=False)
            return pl.when(number >= 0).then(number)
        case "item":
            ids = catalogue.frame["item"]
            rows = pl.int_range(len(ids), eager=True)
            return column.replace_strict(ids, rows, default=None, return_dtype=pl.Int64)
        case "flag":
            return column.replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)
        case "text":
            return column.str.strip_chars().replace("", None)
    return column
