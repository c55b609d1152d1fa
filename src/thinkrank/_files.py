"""Files appear whole or not at all, and what can be made again is kept in one cache."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from platformdirs import user_cache_path


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name only once everything is on the disk.

    A process killed half-way leaves the old file, if there was one, and a hidden ``.part`` beside it.

    Args:
        path: the final name; its folder is made if missing.

    Yields:
        the file to write to, in the same folder, so that the last step is one rename.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Return where downloads and converted weights are kept: ``THINKRANK_CACHE``, else the platform's cache folder."""
    if folder := os.environ.get("THINKRANK_CACHE"):
        return Path(folder).expanduser()
    return user_cache_path("thinkrank", appauthor=False)
