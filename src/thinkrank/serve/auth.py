"""Keys: only their hashes are kept, and comparing takes the same time whichever key is wrong."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from thinkrank.errors import ThinkrankError

_HASH = re.compile(r"[0-9a-f]{64}")


def new_key() -> str:
    """Make a key that cannot be guessed."""
    return f"tr-{secrets.token_urlsafe(32)}"


def hash_of(key: str) -> str:
    """Return the SHA-256 of a key in hexadecimal digits; keys are random, so a fast hash is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_hashes(path: Path) -> tuple[str, ...]:
    """Read hashes of keys, one a line; what follows a # is a comment.

    Raises:
        ThinkrankError: if a line is no hash, there is none, or the file is no text.
    """
    hashes = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ThinkrankError(f"{path}: no text in UTF-8; save it as such") from error
    for number, line in enumerate(lines, start=1):
        if word := line.partition("#")[0].strip().lower():
            if not _HASH.fullmatch(word):
                raise ThinkrankError(
                    f"{path}, line {number}: not the SHA-256 of a key; make both with `thinkrank serve --new-key`"
                )
            hashes.append(word)
    if not hashes:
        raise ThinkrankError(f"{path}: holds no hash of a key; make one with `thinkrank serve --new-key`")
    return tuple(hashes)


def opens(key: str | None, hashes: Sequence[str]) -> bool:
    """Tell whether a key is one of those that open the server; without hashes everything does."""
    if not hashes:
        return True
    given = hash_of(key or "")
    return sum(hmac.compare_digest(given, one) for one in hashes) > 0  # all are compared


def key_of(authorization: str | None, api_key: str | None) -> str | None:
    """Return the key that the headers `Authorization: Bearer ...` or `X-API-Key` hold."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else api_key
