"""Files appear whole or not at all, and what can be made again is kept in one cache."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from platformdirs import user_cache_path

from thinkrank.errors import ThinkrankError, UnwritableError

_UNWRITABLE = tuple(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ENOTDIR", "EISDIR")
    if hasattr(errno, name)
)
"""Faults of a disk or a folder, by the system's numbers."""


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name only once everything is on the disk.

    A process killed half-way leaves the old file, if there was one, and a hidden ``.part`` beside it.

    Args:
        path: the final name; its folder is made if missing.

    Yields:
        the file to write to, in the same folder, so that the last step is one rename.

    Raises:
        UnwritableError: if it cannot be written, as on a full disk.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path, otherwise="make room, or name another place"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def writing(what: str | Path, *, otherwise: str) -> Iterator[None]:
    """Turn what a full disk raises, or a folder that takes no file, into one plain error; other faults stay.

    Args:
        what: is being written.
        otherwise: what to do instead.

    Raises:
        UnwritableError: naming both.
    """
    from polars.exceptions import PolarsError  # both have errors of their own for it
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, PolarsError, SafetensorError) as error:
        fault = error.errno if isinstance(error, OSError) else None
        if fault not in _UNWRITABLE and not any(os.strerror(known) in str(error) for known in _UNWRITABLE):
            raise
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise UnwritableError(f"{what} cannot be written: {reason}; {otherwise}") from error


def check_writable(folder: Path, *, otherwise: str) -> None:
    """Refuse a folder that cannot be written into, before anything is computed for it; it is made if missing.

    Args:
        folder: for results.
        otherwise: what to do instead, in the words of whoever asked.

    Raises:
        ThinkrankError: naming it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ThinkrankError(f"{folder} cannot be written into ({error.strerror}): {otherwise}") from error


def cache_folder() -> Path:
    """Return where downloads and converted weights are kept: ``THINKRANK_CACHE``, else the platform's cache folder.

    Where there is no home folder, it is one in the temporary folder that belongs to this user alone.

    Raises:
        ThinkrankError: if there is no home folder, and somebody else's folder stands in that place.
    """
    if folder := os.environ.get("THINKRANK_CACHE"):
        return expanded(folder)
    try:
        return user_cache_path("thinkrank", appauthor=False)
    except RuntimeError:
        own = Path(tempfile.gettempdir()) / f"thinkrank-{os.getuid()}"
        own.mkdir(mode=0o700, exist_ok=True)
        if own.is_symlink() or own.stat().st_uid != os.getuid():
            raise ThinkrankError(
                f"there is no home folder, and {own} is somebody else's. Set THINKRANK_CACHE to a folder of yours."
            ) from None
        return own


def expanded(path: str | Path) -> Path:
    """Return a path in which a leading ``~`` is the home folder.

    Raises:
        ThinkrankError: if there is no such home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ThinkrankError(f"{path}: there is no such home folder. Write the whole path.") from error


def folder_digest(folder: Path) -> str:
    """Hash the names and the bytes of a folder's files."""
    whole = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        whole.update(f"{file.relative_to(folder).as_posix()} {digest}\n".encode())
    return whole.hexdigest()
