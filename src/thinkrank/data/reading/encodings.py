"""What the bytes of a text file mean where nobody said so: UTF-8, else what Windows writes in Western Europe."""

import re
from collections.abc import Iterator

from thinkrank.data.reading.blocks import text_blocks, without_quoted
from thinkrank.data.reading.files import DataFile
from thinkrank.data.reading.intake import note, report_row, setting, takes
from thinkrank.errors import ThinkrankError

_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_FOREIGN_WORD = re.compile(rb"[\x80-\xff]{3}")
# Where text is read as Windows-1252, these bytes mean nothing.
_UNDEFINED = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
_QUOTED_ROW = re.compile(rb'(?:[^"\n]|"[^"]*")*\n')


def decoded_blocks(file: DataFile, *, encoding: str | None, quoted: bool, header: int) -> Iterator[tuple[bytes, int]]:
    """Yield blocks of whole rows as valid UTF-8, each with the number of rows before it.

    A file without a line of UTF-8 beyond ASCII is read as Windows-1252, with a notice. Rows that are neither are
    reported and left blank.

    Args:
        file: what to read.
        encoding: what its bytes mean; None to find out.
        quoted: rows may contain line breaks between double quotes.
        header: lines before the first row, counted as rows below 1.

    Raises:
        ThinkrankError: if the file cannot be read or decoded, or a row is at fault and no intake is open.
    """
    settle = _Settled(file.name, is_told=encoding is not None)
    rows = -header
    for block in text_blocks(file, encoding=encoding, quoted=quoted):
        yield settle(block, rows, quoted=quoted), rows
        rows += (without_quoted(block) if quoted else block).count(b"\n")


def split_rows(block: bytes, *, quoted: bool) -> list[bytes]:
    """Split a block into its rows, newlines kept; a quote that is never closed ends at its line."""
    if not quoted or b'"' not in block:
        return [line + b"\n" for line in block.split(b"\n")[:-1]]
    rows, at = [], 0
    while at < len(block):
        match = _QUOTED_ROW.match(block, at)
        end = match.end() if match else block.index(b"\n", at) + 1
        rows.append(block[at:end])
        at = end
    return rows


def blank(row: bytes) -> bytes:
    """Return an empty row that counts as one, whatever stood in it."""
    return b"\n" if row.endswith(b"\n") else b""


class _Settled:
    """Hold what a file turned out to be so far."""

    def __init__(self, file: str, *, is_told: bool) -> None:
        self.file, self.is_told = file, is_told
        self.codec = "utf-8" if is_told else ""

    def __call__(self, block: bytes, rows_before: int, *, quoted: bool) -> bytes:
        if block.isascii():
            return block
        if self.codec != "cp1252" and _is_utf8(block):
            self.codec = "utf-8"
            return block
        rows = split_rows(block, quoted=quoted)
        foreign = [index for index, row in enumerate(rows) if not row.isascii()]
        unicode = {index for index in foreign if _is_utf8(rows[index])}
        if not self.codec:
            self.codec = "utf-8" if unicode else "cp1252"
            if self.codec == "cp1252":
                self._refuse_other_alphabets([rows[index] for index in foreign])
                self._say(rows[foreign[0]])
        for index in foreign:
            row, number = rows[index], rows_before + index + 1
            if self.codec == "utf-8" and index not in unicode:
                is_mine = self.is_told and takes("encoding")
                way_out = f"Use {setting('encoding', 'cp1252')}." if is_mine else "Save the file as UTF-8."
                more = ", as other rows are" if not self.is_told else ""
                self._refuse(rows, index, number, f"byte {{value}} is not UTF-8{more}. {way_out}", _first_wrong(row))
            elif self.codec == "cp1252" and index in unicode:
                kind = "is UTF-8, and the rows before are not. Save the file in one encoding."
                self._refuse(rows, index, number, kind, None)
            elif self.codec == "cp1252" and (wrong := _UNDEFINED.search(row)):
                named = f"Name the file's {setting('encoding', '...')}."
                way_out = named if takes("encoding") else "Save the file as UTF-8."
                kind = f"byte {{value}} is neither UTF-8 nor Windows-1252. {way_out}"
                self._refuse(rows, index, number, kind, wrong.start())
            elif self.codec == "cp1252":
                rows[index] = row.decode("cp1252").encode()
        return b"".join(rows)

    def _refuse(self, rows: list[bytes], index: int, number: int, kind: str, at: int | None) -> None:
        row = rows[index]
        value = None if at is None else _Byte(row[at])
        report_row(self.file, number, kind, value, values=row.decode("latin-1").rstrip("\r\n"))
        rows[index] = blank(row)

    def _refuse_other_alphabets(self, rows: list[bytes]) -> None:
        """Refuse text whose words are made of nothing but foreign letters: Western Europe has single ones."""
        other = [row for row in rows if _FOREIGN_WORD.search(row)]
        if 2 * len(other) > len(rows):
            shown = other[0].decode("cp1252", errors="replace").strip()[:40]
            named = f"Name its encoding, as in {setting('encoding', 'cp1251')}, or save it as UTF-8."
            way_out = named if takes("encoding") else "Save it as UTF-8."
            raise ThinkrankError(
                f"{self.file}: is not UTF-8, and as Windows-1252 it makes no words ({shown!r}). {way_out}"
            )

    def _say(self, row: bytes) -> None:
        at = _NOT_ASCII.search(row)
        start = at.start() if at else 0
        word = row[max(0, start - 12) : start + 12].decode("cp1252", errors="replace").strip()
        named = f"name another with {setting('encoding', '...')}"
        way_out = named if takes("encoding") else "if that is wrong, save it as UTF-8"
        note(f"{self.file}: is not UTF-8 and was read as Windows-1252, as in {word!r}; {way_out}")


class _Byte(int):
    def __str__(self) -> str:
        return f"0x{self:02x}"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _first_wrong(row: bytes) -> int:
    try:
        row.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    raise AssertionError("only called for rows that are not UTF-8")
