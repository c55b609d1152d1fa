"""A bounded queue whose jobs are answered together.

Jobs that only read wait while others are read, and all that then wait and are of one kind are answered in one call.
Jobs that are written for have a thread each, and join the texts that are being written; see
`thinkrank.language.engines.joining`. What does not find a place is refused at once.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

_LATEST = 0.1
"""Weight of the newest call in what a call is known to take."""


class FullError(Exception):
    """Tell that a job finds no place.

    Args:
        seconds: after which there may be one.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"all places are taken: ask again in {seconds} s")
        self.seconds = seconds


class ClosedError(Exception):
    """Tell that no job is taken any more."""


@dataclass(eq=False)
class Job:
    """Hold one question.

    Attributes:
        ask: the question.
        kind: jobs of one kind can be answered in one call; None for a job that is written for.
        deadline: of `time.monotonic`, after which nobody waits.
        wrote: is told the place of a prompt and the text written for it; None where nobody reads along.
        future: the answer.
        gone: set when nobody waits any more.
        began: when it was taken from the queue; of `time.monotonic`.
        asked: when it came.
    """

    ask: Any
    kind: Hashable = None
    deadline: float = math.inf
    wrote: Callable[[int, str], None] | None = None
    future: "Future[Any]" = field(default_factory=Future)
    gone: threading.Event = field(default_factory=threading.Event)
    asked: float = field(default_factory=time.monotonic)
    began: float = 0.0

    @property
    def is_gone(self) -> bool:
        """Tell whether nobody waits for the answer."""
        return self.gone.is_set() or time.monotonic() > self.deadline

    @property
    def overdue(self) -> str:
        """Say that the deadline has come."""
        return f"no answer within {1000 * (self.deadline - self.asked):,.0f} ms"


class Batcher:
    """Answer jobs in threads.

    Args:
        answer: answers jobs of one kind, or one that is written for: for each a value, or the exception to raise.
        max_writing: jobs that are written for at once.
        max_waiting_to_write: further ones that may wait.
        max_reading: others that are answered in one call.
        max_waiting_to_read: further ones that may wait.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Job]], Sequence[Any]],
        *,
        max_writing: int = 32,
        max_waiting_to_write: int = 16,
        max_reading: int = 64,
        max_waiting_to_read: int = 64,
    ) -> None:
        self._answer = answer
        self.max_writing, self.max_waiting_to_write = max_writing, max_waiting_to_write
        self.max_reading, self.max_waiting_to_read = max_reading, max_waiting_to_read
        self.batches = self.batched = 0
        self._changed = threading.Condition()
        self._reads: deque[Job] = deque()
        self._writes: deque[Job] = deque()
        self._reading = self._writing = 0
        self._paused, self._closed = 0, False
        self._seconds = {"read": 0.0, "write": 0.0}
        self._threads = [threading.Thread(target=self._read_all, name="reads", daemon=True)]
        self._threads += [
            threading.Thread(target=self._write_all, name=f"writes-{n}", daemon=True) for n in range(max_writing)
        ]

    @property
    def waiting(self) -> int:
        """Count the jobs that wait."""
        return len(self._reads) + len(self._writes)

    @property
    def running(self) -> int:
        """Count the jobs that are being answered."""
        return self._reading + self._writing

    def start(self) -> None:
        """Begin to answer."""
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Take a job.

        Raises:
            FullError: if it finds no place.
            ClosedError: if no job is taken any more.
        """
        with self._changed:
            if self._closed:
                raise ClosedError
            if job.kind is None:
                free = self.max_writing - self._writing
                if len(self._writes) >= self.max_waiting_to_write + max(0, free):
                    raise FullError(self._until_free("write", len(self._writes) / self.max_writing))
                self._writes.append(job)
            else:
                free = 0 if self._reading else self.max_reading
                if len(self._reads) >= self.max_waiting_to_read + free:
                    raise FullError(self._until_free("read", len(self._reads) / self.max_reading))
                self._reads.append(job)
            self._changed.notify_all()

    def _until_free(self, what: str, calls: float) -> int:
        return max(1, math.ceil(self._seconds[what] * calls))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait until nothing is being answered, and let nothing begin until the end of the block."""
        with self._changed:
            self._paused += 1
            while self.running:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._paused -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Take no more jobs, and wait until those that were taken are answered."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _read_all(self) -> None:
        while True:
            with self._changed:
                while not self._reads or self._paused:
                    if self._closed and not self._reads:
                        return
                    self._changed.wait()
                jobs = self._of_one_kind()
                self._reading = len(jobs)
            self._settle(jobs, "read")
            with self._changed:
                self._reading = 0
                self._changed.notify_all()

    def _of_one_kind(self) -> list[Job]:
        """Take the oldest job and all that can be answered with it, as many as fit."""
        kind, taken, left = self._reads[0].kind, list[Job](), deque[Job]()
        for job in self._reads:
            (taken if job.kind == kind and len(taken) < self.max_reading else left).append(job)
        self._reads = left
        return taken

    def _write_all(self) -> None:
        while True:
            with self._changed:
                while not self._writes or self._paused:
                    if self._closed and not self._writes:
                        return
                    self._changed.wait()
                job = self._writes.popleft()
                self._writing += 1
            self._settle([job], "write")
            with self._changed:
                self._writing -= 1
                self._changed.notify_all()

    def _settle(self, jobs: list[Job], what: str) -> None:
        """Answer jobs for which somebody waits; whatever goes wrong is the answer of those it concerns."""
        began = time.monotonic()
        for job in jobs:
            job.began = began
        jobs = [
            job
            for job in jobs
            if not (job.is_gone and job.future.cancel()) and job.future.set_running_or_notify_cancel()
        ]
        if not jobs:
            return
        self.batches, self.batched = self.batches + 1, self.batched + len(jobs)
        try:
            answers = self._answer(jobs)
        except BaseException as error:  # a thread has no other caller to tell
            answers = [error] * len(jobs)
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, BaseException):
                job.future.set_exception(answer)
            else:
                job.future.set_result(answer)
        self._seconds[what] += _LATEST * (time.monotonic() - began - self._seconds[what])
