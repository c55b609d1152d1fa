"""Answer all users of a table into a folder of Parquet files, one for each part of the input.

A part is answered by one function in one process, whichever engine calls it, and its file appears whole or not at all.
So a job that was killed goes on with the parts that have no file, and files do not depend on who wrote them or when:
they have the order of the input, one row group, a fixed compression and no times in them.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from thinkrank._files import atomic_write, folder_digest
from thinkrank._lock import locked
from thinkrank.errors import ThinkrankError
from thinkrank.offline.parts import BLOCK, Part, files_of, parts_of
from thinkrank.offline.worker import Done, Job, Worker
from thinkrank.recipes.answering import Manner, warn_unanswered
from thinkrank.recipes.opening import opened
from thinkrank.training.progress import Progress, no_progress

logger = logging.getLogger(__name__)

RECORD = "score.json"
_END = 1 << 16
"""Bytes of either end of an input file by which a job knows it again."""


@dataclass(frozen=True)
class Scored:
    """Tell what a job did.

    Attributes:
        parts: of the whole job.
        kept: parts that were there before.
        users: answered now.
    """

    parts: int
    kept: int
    users: int


def score_users(
    run: Path,
    users: Path,
    out: Path,
    how: Manner,
    *,
    engine: str = "local",
    block: int = BLOCK,
    workers: int | None = None,
    threads: int | None = None,
    progress: Progress = no_progress,
) -> Scored:
    """Answer all users of a table; what is there already of the same job is kept.

    Args:
        run: folder of a run, or of a saved retriever.
        users: a table as `recommend --users` takes it, or a folder of such tables.
        out: folder of the answers; Ray's workers must reach all three by the same names.
        how: users are answered.
        engine: local, or ray.
        block: users of a part: what is held in memory, and lost when a worker is.
        workers: processes on the cluster at most; None for one on every node, or every GPU.
        threads: that a process computes with; None for what libraries choose here, and for the cores of the smallest
            node there. Sums in another number of threads may differ in their last digit.
        progress: shows the users.

    Raises:
        ThinkrankError: for a run, a table or a user at fault, or if the folder holds answers of another job.
    """
    run, users, out = (Path(path).expanduser().resolve() for path in (run, users, out))
    opened(run, "retrieve")  # before anything is made
    parts = list(parts_of(users, block))
    with locked(out, doing="written into"):
        _check(out, _record(run, users, how, block))
        for left in out.glob(".part-*.part"):
            left.unlink(missing_ok=True)
        waiting = [part for part in parts if not (out / part.name).is_file()]
        counts = [part.users for part in waiting if part.users is not None]
        whole = sum(counts) if len(counts) == len(waiting) else 0  # 0: nobody knows
        total, job = Done(), Job(run, out, how, threads)
        with progress("answering", whole) as advance:
            inside = _Inside(advance)
            for done in _answered(job, waiting, engine, workers, inside.progress):
                if done.fault:
                    raise ThinkrankError(done.fault)
                total += done
                inside.end(done.users)
    if total.lost:
        logger.warning(
            "left %s of %s events out of the histories: the model's catalogue lacks their items",
            f"{total.lost:,}", f"{total.events:,}",
        )  # fmt: skip
    warn_unanswered(total.users - total.answered)
    return Scored(len(parts), len(parts) - len(waiting), total.users)


class _Inside:
    """Move the bar of all parts by what is answered inside of one."""

    def __init__(self, advance: Callable[..., None]) -> None:
        self._advance, self._moved = advance, 0

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Callable[..., None]]:
        """Show the work on one part; see `Progress`."""

        def moved(done: int = 1, note: str = "") -> None:
            self._moved += done
            self._advance(done, note=note)

        yield moved

    def end(self, users: int) -> None:
        """Move on to the end of a part of so many users."""
        self._advance(users - self._moved)
        self._moved = 0


def _answered(job: Job, parts: Sequence[Part], engine: str, workers: int | None, inside: Progress) -> Iterator[Done]:
    """Have parts answered, in this process or on a cluster."""
    if not parts:
        return
    if engine == "local":
        worker = Worker(job)
        yield from (worker(part, inside) for part in parts)
        return
    from thinkrank.offline.on_ray import answered_on_ray

    yield from answered_on_ray(job, parts, workers)


def _record(run: Path, users: Path, how: Manner, block: int) -> dict[str, Any]:
    """Say what answers depend on: the model, the input, and how users are asked."""
    told = {name: value for name, value in asdict(how).items() if name not in ("path", "device")}
    files = [[file.name, file.stat().st_size, _ends(file)] for file in files_of(users)]
    return {"model": folder_digest(opened(run, "retrieve").saved), "users": files, "block": block, **told}


def _ends(file: Path) -> str:
    """Hash the first and last bytes of a file: its size alone hides a change, and all of it may be terabytes.

    Parquet ends with what its columns hold, their extremes included.
    """
    with file.open("rb") as stream:
        first = stream.read(_END)
        stream.seek(max(0, file.stat().st_size - _END))
        return hashlib.sha256(first + stream.read(_END)).hexdigest()


def _check(out: Path, record: dict[str, Any]) -> None:
    """Begin a job in a folder, or refuse one that holds another's answers."""
    file = out / RECORD
    if not any(out.glob("*.parquet")):  # nobody is answered yet, so nothing could be mixed
        with atomic_write(file) as stream:
            stream.write((json.dumps(record, indent=2) + "\n").encode())
        return
    if not file.is_file():
        raise ThinkrankError(f"{out} holds Parquet files of something else: give another --out")
    before = json.loads(file.read_bytes())
    for name, value in record.items():
        if before.get(name) != value:
            was = "" if name in ("model", "users") else f" ({before.get(name)} then, {value} now)"
            raise ThinkrankError(f"{out} holds answers of another job: its {name} differs{was}. Give another --out.")
