"""One process per folder: a second one would mix its checkpoints and log with the first one's.

The operating system holds the lock and drops it when the process ends, however it ends; the file says who holds it.
"""

import errno
import functools
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from thinkrank.errors import ThinkrankError

LOCK_FILE = "run.lock"
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
"""What file systems without locks answer, such as Lustre and some of FUSE."""
_POLL = 0.5
"""Seconds between two looks at whether a folder was given back."""


logger = logging.getLogger(__name__)


class HeldError(ThinkrankError):
    """Tell that another process holds the folder."""


@contextmanager
def locked(folder: Path, *, doing: str = "trained", waits: bool = False) -> Iterator[None]:
    """Hold a folder for this process alone; it is made if missing, and goes again if nothing was written into it.

    Args:
        folder: to be held.
        doing: what is done with it, for the message to others.
        waits: whether to wait until another process on this machine gives it back.

    Raises:
        HeldError: at once, if another process holds it, or one on another host left without giving it back.
    """
    is_new = not folder.exists()
    path = folder / LOCK_FILE
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            opened = path.open("a+", encoding="utf-8")
        except FileNotFoundError:  # who held the folder took it away just now
            continue
        with opened as file:
            holder = _holder(file)
            is_taken = _taken(file)
            if is_taken and not _is_at(path, file):
                continue
            if is_taken:
                if holder.get("host", platform.node()) != platform.node():
                    raise HeldError(
                        f"{folder} is held by {_named(holder)}, and from here nobody can see whether it still runs: "
                        f"if it does not, delete {path}"
                    )
                file.truncate(0)
                file.write(json.dumps({"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%F %T")}))
                file.flush()
                try:
                    yield
                finally:
                    with suppress(PermissionError):  # Windows removes no file that is open: it stays, and is free
                        path.unlink(missing_ok=True)
                    if is_new:
                        with suppress(OSError):  # it is not empty, or another process waits for it
                            folder.rmdir()
                return
            if not waits:
                raise HeldError(
                    f"{folder} is being {doing} by {_named(holder)}: wait until it ends, or give another folder"
                )
        time.sleep(_POLL)


def _is_at(path: Path, file: IO[str]) -> bool:
    """Tell whether an open file is still the one of this path: who gives a lock back removes its file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _taken(file: IO[str]) -> bool:
    """Take the lock unless another has it."""
    if sys.platform == "win32":  # no lock of this kind: two trainings at once are the user's to avoid
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _warn_unlocked(error.strerror)
    return True


@functools.cache
def _warn_unlocked(reason: str) -> None:
    """Say once what is the user's to avoid."""
    logger.warning("this file system locks nothing (%s): let no second process use the same folder", reason)


def _holder(file: IO[str]) -> dict[str, object]:
    file.seek(0)
    try:
        told = json.loads(file.read() or "{}")
    except ValueError:  # killed while writing
        return {}
    return told if isinstance(told, dict) else {}


def _named(holder: dict[str, object]) -> str:
    return "process {pid} on {host} since {since}".format(**{"pid": "?", "host": "?", "since": "?"} | holder)
