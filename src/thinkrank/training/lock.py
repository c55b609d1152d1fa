"""One training per folder: a second one would mix its checkpoints and log with the first one's.

The operating system holds the lock and drops it when the process ends, however it ends; the file says who holds it.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from thinkrank.errors import ThinkrankError

LOCK_FILE = "run.lock"


@contextmanager
def locked(folder: Path, *, doing: str = "trained") -> Iterator[None]:
    """Hold a folder for this process alone; it is made if missing, and goes again if nothing was written into it.

    Args:
        folder: to be held.
        doing: what is done with it, for the message to others.

    Raises:
        ThinkrankError: at once, if another process holds it, or one on another host left without giving it back.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    with path.open("a+", encoding="utf-8") as file:
        holder = _holder(file)
        if not _taken(file):
            raise ThinkrankError(
                f"{folder} is being {doing} by {_named(holder)}: wait until it ends, or give another folder"
            )
        if holder.get("host", platform.node()) != platform.node():
            raise ThinkrankError(
                f"{folder} is held by {_named(holder)}, and from here nobody can see whether it still runs: "
                f"if it does not, delete {path}"
            )
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%F %T")}))
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            if is_new and not any(folder.iterdir()):
                folder.rmdir()


def _taken(file: IO[str]) -> bool:
    """Take the lock unless another has it."""
    if sys.platform == "win32":  # no lock of this kind: two trainings at once are the user's to avoid
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: IO[str]) -> dict[str, object]:
    file.seek(0)
    try:
        told = json.loads(file.read() or "{}")
    except ValueError:  # killed while writing
        return {}
    return told if isinstance(told, dict) else {}


def _named(holder: dict[str, object]) -> str:
    return "process {pid} on {host} since {since}".format(**{"pid": "?", "host": "?", "since": "?"} | holder)
