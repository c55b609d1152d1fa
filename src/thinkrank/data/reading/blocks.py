"""Text files as UTF-8 blocks that end where a row ends."""

import codecs
import re
from collections.abc import Iterator

from thinkrank.data.reading.files import DataFile
from thinkrank.errors import ThinkrankError

# A row longer than this is not data but a quote that nobody closed.
_LONGEST_ROW = 1 << 26
_QUOTED = re.compile(rb'"[^"]*"')


def text_blocks(file: DataFile, *, encoding: str = "utf-8", quoted: bool = False) -> Iterator[bytes]:
    """Yield a text file in blocks of whole rows, the last newline always there, without a byte order mark.

    UTF-8 is passed on unchecked (see `check_utf8`, which can name the row); other encodings are converted to it. Where
    a quote is never closed, the last block is what follows it.

    Args:
        file: what to read.
        encoding: what its bytes mean, by Python's names.
        quoted: rows may contain line breaks between double quotes.

    Raises:
        ThinkrankError: if the file cannot be read or decoded.
    """
    rest = b""
    for piece in _as_utf8(file, encoding):
        rest += piece
        end = _last_row_end(rest, quoted)
        if end:
            yield rest[:end]
            rest = rest[end:]
        elif len(rest) > _LONGEST_ROW:
            break
    if rest:
        yield rest if rest.endswith(b"\n") else rest + b"\n"


def without_quoted(block: bytes) -> bytes:
    """Remove what stands between double quotes, so that the separators and newlines left are real ones."""
    return _QUOTED.sub(b"", block) if b'"' in block else block


def check_utf8(block: bytes, file: str, rows_before: int) -> None:
    """Refuse a block that is not UTF-8.

    Args:
        block: whole rows.
        file: its name, for the message.
        rows_before: how many rows of the file come before the block.

    Raises:
        ThinkrankError: names the row of the first byte at fault and the way out.
    """
    if block.isascii():
        return
    try:
        block.decode("utf-8")
    except UnicodeDecodeError as error:
        row = rows_before + without_quoted(block[: error.start]).split(b'"')[0].count(b"\n") + 1
        byte = block[error.start]
        raise ThinkrankError(f"{file}, row {row}: byte 0x{byte:02x} is not UTF-8. Use encoding='latin-1'.") from error


def _as_utf8(file: DataFile, encoding: str) -> Iterator[bytes]:
    try:
        codec = codecs.lookup(encoding)
    except LookupError as error:
        raise ThinkrankError(f"unknown encoding {encoding!r}. Use 'utf-8' or 'latin-1'.") from error
    pieces = file.pieces()
    if codec.name != "utf-8":
        decoder = codec.incrementaldecoder()
        try:
            for piece in pieces:
                yield decoder.decode(piece).encode()
            yield decoder.decode(b"", final=True).encode()
        except UnicodeError as error:
            raise ThinkrankError(f"{file.name}: is not {encoding} ({error}). Give another encoding.") from error
        return
    first = next(pieces, b"")
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ThinkrankError(f"{file.name}: is UTF-16. Use encoding='utf-16'.")
    yield first.removeprefix(codecs.BOM_UTF8)
    yield from pieces


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
