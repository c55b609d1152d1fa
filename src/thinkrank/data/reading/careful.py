"""Rows of CSV one at a time, for blocks in which a quote stands where none should or a row has another length."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Row:
    """Hold one row.

    Attributes:
        text: as it stands in the file, without its last newline.
        fields: its values, empty ones None; None for all if its quotes do not fit.
        breaks: line breaks inside of it.
    """

    text: str
    fields: tuple[str | None, ...] | None
    breaks: int


def well_quoted(block: bytes, separator: str) -> bytes:
    """Remove fields that stand in double quotes from their first byte to their last; a quote that is left is odd."""
    return _quoted_field(separator).sub(b"", block) if b'"' in block else block


def breaks_inside(block: bytes, separator: str) -> Iterator[tuple[int, int]]:
    """Yield each row of a block, from 0, with a field that holds line breaks, and how many."""
    row = at = 0
    for match in _quoted_field(separator).finditer(block):
        row += block.count(b"\n", at, match.start())
        at = match.end()
        breaks = block.count(b"\n", match.start(), at)
        if breaks:
            yield row, breaks


def careful_rows(block: bytes, separator: str, *, quoted: bool) -> tuple[list[Row], bool]:
    r"""Split a block into rows and these into fields; a quote that is never closed ends at its line.

    Where ``\"`` occurs, quotes are read both as written twice and as written with a backslash, and the way in which
    fewer rows are odd counts.

    Returns:
        the rows, and whether quotes were written with a backslash.
    """
    text = block.decode()
    rows = _rows(text, separator, quoted=quoted, escaped=False)
    if not quoted or r"\"" not in text:
        return rows, False
    other = _rows(text, separator, quoted=quoted, escaped=True)
    odd, other_odd = (sum(row.fields is None for row in found) for found in (rows, other))
    return (other, True) if other_odd < odd else (rows, False)


def _rows(text: str, separator: str, *, quoted: bool, escaped: bool) -> list[Row]:
    field, rows, at = _field(separator, escaped), [], 0
    while at < len(text):
        line_end = text.index("\n", at)
        if not quoted or '"' not in text[at:line_end]:
            line = text[at:line_end].removesuffix("\r")
            rows.append(Row(line, tuple(value or None for value in line.split(separator)), 0))
            at = line_end + 1
            continue
        values, place = [], at
        while True:
            match = field.match(text, place)
            if match is None:
                rows.append(Row(text[at:line_end].removesuffix("\r"), None, 0))
                at = line_end + 1
                break
            values.append(_value(match, escaped))
            place = match.end() + 1
            if text[match.end()] == separator:
                continue
            if text[match.end()] == "\r":
                place += 1
            row = text[at : place - 1].removesuffix("\r")
            rows.append(Row(row, tuple(values), row.count("\n")))
            at = place
            break
    return rows


def _value(match: "re.Match[str]", escaped: bool) -> str | None:
    inside = match["quoted"]
    if inside is None:
        return match["plain"] or None
    if escaped:
        return re.sub(r"\\(.)", r"\1", inside.replace('""', '"'), flags=re.DOTALL)
    return str(inside).replace('""', '"')


@lru_cache
def _field(separator: str, escaped: bool) -> "re.Pattern[str]":
    end = re.escape(separator)
    inside = r'(?:[^"\\]|\\.|"")*+' if escaped else r'(?:[^"]|"")*+'
    return re.compile(
        rf'(?:[ ]*"(?P<quoted>{inside})"[ ]*|(?P<plain>(?![ ]*")[^{end}\r\n]*))(?={end}|\r?\n)', re.DOTALL
    )


@lru_cache
def _quoted_field(separator: str) -> "re.Pattern[bytes]":
    end = re.escape(separator.encode())
    return re.compile(rb"(?:(?<=[" + end + rb'\n])|\A)"(?:[^"]|"")*+"(?=[' + end + rb"\r\n])")
