"""Text files as blocks that end where a row ends."""

import codecs
import re
from collections.abc import Iterator

from thinkrank.data.reading.files import DataFile
from thinkrank.data.reading.intake import setting
from thinkrank.errors import ThinkrankError

# A row longer than this is not data but a quote that nobody closed.
_LONGEST_ROW = 1 << 26
_QUOTED = re.compile(rb'"[^"]*"')
_NO_CHARSETS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape"}
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def text_blocks(file: DataFile, *, encoding: str | None = None, quoted: bool = False) -> Iterator[bytes]:
    """Yield a text file in blocks of whole rows, the last newline always there, without a byte order mark.

    UTF-8, and what may be UTF-8 because nobody named an encoding, is passed on unchecked: see
    `thinkrank.data.reading.encodings`. Other encodings are converted to it. Where a quote is never closed, rows end at
    their lines.

    Args:
        file: what to read.
        encoding: what its bytes mean, by Python's names; None for what its mark says, else unchecked.
        quoted: rows may contain line breaks between double quotes.

    Raises:
        ThinkrankError: if the file cannot be read or decoded.
    """
    rest = b""
    for piece in _as_utf8(file, encoding):
        rest += piece
        end = _last_row_end(rest, quoted)
        if not end and len(rest) > _LONGEST_ROW:
            end = _last_row_end(rest, quoted=False)
        if end:
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest if rest.endswith(b"\n") else rest + b"\n"


def without_quoted(block: bytes) -> bytes:
    """Remove what stands between double quotes, so that the separators and newlines left are real ones."""
    return _QUOTED.sub(b"", block) if b'"' in block else block


def _as_utf8(file: DataFile, encoding: str | None) -> Iterator[bytes]:
    pieces = file.pieces()
    first = next(pieces, b"")
    name = _checked(encoding) if encoding else next((it for mark, it in _MARKS.items() if first.startswith(mark)), None)
    if name is None and b"\0" in first[:4096]:
        little = first[1:4096:2].count(0) > first[0:4096:2].count(0)
        way_out = setting("encoding", "utf-16-le" if little else "utf-16-be")
        raise ThinkrankError(f"{file.name}: holds zero bytes, as UTF-16 without its mark does. Use {way_out}.")
    if name in (None, "utf-8"):
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from pieces
        return
    decoder = codecs.getincrementaldecoder(str(name))()
    try:
        yield decoder.decode(first).encode()
        for piece in pieces:
            yield decoder.decode(piece).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        raise ThinkrankError(f"{file.name}: is not {name} ({error}). Give another encoding.") from error


def _checked(encoding: str) -> str:
    """Return Python's name of an encoding of text."""
    try:
        if encoding.casefold().replace("-", "_") in _NO_CHARSETS:
            raise LookupError
        "".encode(encoding)  # refuses what encodes no text, such as rot13
        return codecs.lookup(encoding).name
    except (LookupError, UnicodeError) as error:
        known = "'utf-8', 'cp1252', 'latin-1' or 'utf-16'"
        raise ThinkrankError(f"unknown encoding {encoding!r}. Use {known}.") from error


def _last_row_end(block: bytes, quoted: bool) -> int:
    """Find the index after the last newline outside quotes, or 0."""
    end = block.rfind(b"\n") + 1
    if not quoted:
        return end
    quotes = block.count(b'"', 0, end)
    while end and quotes % 2:
        earlier = block.rfind(b"\n", 0, end - 1) + 1
        quotes -= block.count(b'"', earlier, end)
        end = earlier
    return end
