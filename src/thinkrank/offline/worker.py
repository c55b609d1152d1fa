"""One process that answers parts, whichever engine calls it: a part is answered by one function, into one file."""

import io
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from thinkrank._files import atomic_write
from thinkrank.errors import ThinkrankError
from thinkrank.offline.parts import Part
from thinkrank.recipes.answering import Manner, Many, answered_in
from thinkrank.recipes.plan import quiet
from thinkrank.training.progress import Progress, no_progress


@dataclass(frozen=True)
class Job:
    """Hold what a process must know to answer parts.

    Attributes:
        run: folder of a run, or of a saved retriever.
        out: folder of the answers.
        how: users are answered.
        threads: that a process computes with; None for what its libraries choose.
    """

    run: Path
    out: Path
    how: Manner
    threads: int | None = None


@dataclass(frozen=True)
class Done:
    """Tell what came of a part.

    Attributes:
        users: who asked.
        answered: those of them who have an answer.
        events: of their histories.
        lost: events that were left out, since the model's catalogue lacks their items.
        fault: why there is no answer to anybody; empty if all went well.
    """

    users: int = 0
    answered: int = 0
    events: int = 0
    lost: int = 0
    fault: str = ""

    def __add__(self, other: "Done") -> "Done":
        return Done(*(getattr(self, name) + getattr(other, name) for name in Done.__match_args__))


class Worker:
    """Answer parts, one after the other, by one loaded model.

    Args:
        job: the job they are of.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._many: Many | None = None

    @property
    def many(self) -> Many:
        """Return the model with the way it is asked; it is opened by the first part."""
        if self._many is None:
            import torch

            if self.job.threads is not None:
                torch.set_num_threads(self.job.threads)
            self._many = Many(self.job.run, self.job.how)
        return self._many

    def __call__(self, part: Part, progress: Progress = no_progress) -> Done:
        """Answer a part into its file, unless it has one; a fault in the input is told, not raised."""
        target = self.job.out / part.name
        if target.is_file():
            return Done(part.users or 0, part.users or 0)
        try:
            with quiet():
                asked = self.many.who(part.file, part.rows)
                requests = asked.within(self.many.catalogue)
                table = self.many.table(requests, progress)
        except ThinkrankError as error:
            return Done(fault=str(error))
        with atomic_write(target) as file:
            file.write(packed(table))
        events = sum(map(len, asked.histories))
        return Done(len(requests), answered_in(table), events, events - sum(map(len, requests.histories)))


def packed(table: pl.DataFrame) -> bytes:
    """Return answers as a Parquet file; equal ones are equal bytes."""
    file = io.BytesIO()
    table.write_parquet(file, compression="zstd", compression_level=3, row_group_size=max(1, len(table)))
    return file.getvalue()
