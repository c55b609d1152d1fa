"""What a job will take, from a minute of it."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from thinkrank.errors import ThinkrankError
from thinkrank.language.counting import counted_tokens
from thinkrank.offline.parts import BLOCK, Part, parts_of
from thinkrank.offline.worker import packed
from thinkrank.recipes.answering import Manner, Many
from thinkrank.recipes.plan import memory
from thinkrank.training.progress import duration


@dataclass(frozen=True)
class Estimate:
    """Hold what a job will take.

    Attributes:
        users: to be answered; estimated from the size of files where only reading tells.
        parts: of the job.
        workers: that share it.
        measured_users: that were answered to find out.
        measured_seconds: that this took.
        loading: seconds until the first answer, in each worker.
        tokens: that language models read and write for all users.
        device_bytes: that a worker takes at most, of the GPU if it has one.
        disk_bytes: of all answers.
    """

    users: int
    parts: int
    workers: int
    measured_users: int
    measured_seconds: float
    loading: float
    tokens: int
    device_bytes: int
    disk_bytes: int

    @property
    def hours(self) -> float:
        """Return the hours until the last part is done."""
        per_user = self.measured_seconds / max(1, self.measured_users)
        return (self.loading + per_user * self.users / min(self.workers, max(1, self.parts))) / 3600

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for machines."""
        return {**asdict(self), "hours": self.hours}

    def told(self) -> str:
        """Write the estimate in one line; what a single worker does stands where there are several."""
        each = f" of {self.workers} workers" if self.workers > 1 else ""
        share = f", {self.users // self.workers:,} users for each{each}" if each else ""
        return " · ".join(
            [
                f"{self.users:,} users in {self.parts:,} parts{share}",
                f"{self.tokens // self.workers:,} tokens" + (" for each" if each else ""),
                f"{self.device_bytes / 1e9:.1f} GB of memory" + (" for each" if each else ""),
                f"{self.disk_bytes / 1e6:,.1f} MB on disk",
                f"about {duration(3600 * self.hours)} ({self.hours:.2f} h), from {self.measured_users:,} users in "
                f"{self.measured_seconds:.1f} s",
            ]
        )


def estimate_users(
    run: Path, users: Path, how: Manner, *, block: int = BLOCK, workers: int = 1, seconds: float = 60.0
) -> Estimate:
    """Answer some users without keeping the answers, and tell from them what all will take.

    Args:
        run: folder of a run, or of a saved retriever.
        users: a table of users, or a folder of such tables.
        how: users are answered.
        block: users of a part.
        workers: that will share the job, each as fast as this process.
        seconds: that answers may take; the first part's users are answered at most.

    Raises:
        ThinkrankError: for a run, a table or a user at fault.
    """
    parts = list(parts_of(users, block))
    if not parts:
        raise ThinkrankError(f"{users}: holds no user, so nothing can be measured")
    many = Many(run, how)
    began = time.perf_counter()
    asked = many.who(parts[0].file, parts[0].rows).within(many.catalogue)
    if not len(asked):
        raise ThinkrankError(f"{parts[0].file}: holds no user, so nothing can be measured")
    tables, counts, clocks = [], [], []
    with counted_tokens() as read:
        for part, _, table in many.answers(asked):
            tables.append(table)
            counts.append(len(part))
            clocks.append((time.perf_counter(), read.tokens))
            if clocks[-1][0] - clocks[0][0] > seconds:
                break
    # the first answers also pay for what is made only once
    is_long = len(counts) > 1
    measured = sum(counts[is_long:])
    took = clocks[-1][0] - (clocks[0][0] if is_long else began)
    tokens = clocks[-1][1] - (clocks[0][1] if is_long else 0)
    whole = _users_of(parts, len(asked))
    return Estimate(
        users=whole,
        parts=len(parts),
        workers=workers,
        measured_users=measured,
        measured_seconds=took,
        loading=clocks[0][0] - began,
        tokens=round(tokens / measured * whole),
        device_bytes=int(memory()),
        disk_bytes=round(len(packed(pl.concat(tables))) / sum(counts) * whole),
    )


def _users_of(parts: list[Part], first: int) -> int:
    """Count users by rows, or by the bytes of files that only reading could count."""
    counted = sum(part.users or 0 for part in parts)
    unread = sum(part.file.stat().st_size for part in parts if part.users is None)
    beginning = parts[0]
    size = beginning.file.stat().st_size
    if beginning.users is not None:  # its rows were counted, and others have as many users in as many bytes
        first = sum(part.users or 0 for part in parts if part.file == beginning.file)
    return counted + round(first * unread / size)
