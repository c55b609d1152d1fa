"""Progress of long work: a count, a rate and the time that remains, on stderr so that stdout stays clean.

Work may hold work: a training validates, an evaluation reads. What is innermost is what is shown to be alive, at least
every five seconds. `estimated` says beforehand what a whole run is made of; then every line tells when the run ends.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from thinkrank.distributed.environment import told

Advance = Callable[..., None]
"""Called as `advance(n)` or `advance(n, note="loss 6.4")` when n more units are done."""

Progress = Callable[[str, int], AbstractContextManager[Advance]]
"""`with progress("training", total) as advance:` shows one piece of work; a total of 0 is one that nobody can count."""

SILENCE = 5.0
"""Seconds without a line after which one is written where there is no terminal."""
_MEASURABLE = 1e-3
"""Seconds of a unit below which it was not done now, but by an earlier start."""


@contextmanager
def no_progress(title: str, total: int) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda n=1, note="": None


def retitled(progress: Progress, title: str) -> Progress:
    """Return a progress that shows the work called "training", and what is inside it, under a title of its own."""

    def begin(of: str, total: int) -> AbstractContextManager[Advance]:
        return progress(of.replace("training", title, 1) if of.startswith("training") else of, total)

    return begin


@dataclass
class Expected:
    """Hold a piece of a run, as it is foreseen and as it goes.

    Attributes:
        units: steps, samples or whatever its progress counts.
        rate: seconds of one of them, as measured beforehand.
        limit: seconds after which it ends early; None for no limit.
    """

    units: int | float
    rate: float
    limit: float | None = None
    done: int | float = field(default=0.0, init=False)
    counted: int | float = field(default=0.0, init=False)
    spent: float = field(default=0.0, init=False)

    def seconds(self) -> float:
        """Return what it takes, as foreseen."""
        whole = self.units * self.rate
        return whole if self.limit is None else min(whole, self.limit)

    def left(self) -> float:
        """Return the seconds that remain, by what its units took so far, or else by what was measured beforehand."""
        rate = (self.spent + self.rate) / (self.counted + 1) if self.counted else self.rate
        left = max(0.0, self.units - self.done) * rate
        return left if self.limit is None else max(0.0, min(left, self.limit - self.spent))


class _Display:
    """Everything that is open now, outermost first, on a terminal or in a log."""

    def __init__(self) -> None:
        self.open: list[_Work] = []
        self.pieces: dict[str, Expected] = {}
        self._event = 0.0
        self._bars: Bars | None = None
        self._ticker: threading.Event | None = None
        self._printed = 0.0
        self._console = Console(stderr=True)

    def begin(self, work: "_Work") -> None:
        """Open a piece of work inside what is open."""
        if not self.open:
            self._start()
        self._account()
        self.open.append(work)
        if self._bars is not None:
            work.task = self._bars.add_task(work.title, total=work.total or None, note="", left="")

    def advance(self, work: "_Work", n: int | float, note: str | None) -> None:
        """Count units of a piece of work."""
        self._account()
        work.done += n
        work.note = work.note if note is None else note
        work.counted += n if work.fresh >= _MEASURABLE * n else 0
        piece = self.pieces.get(work.title)
        if piece is not None:
            piece.done += n
            inside = self.pieces.get(f"{work.title}{INSIDE}")
            if work.fresh >= _MEASURABLE * n:
                piece.counted, piece.spent = piece.counted + n, piece.spent + work.fresh
            elif inside is not None:  # an earlier start validated as well
                inside.done += inside.units * n / max(1, piece.units)
        work.fresh = 0.0
        if self._bars is not None and work.task is not None:
            self._bars.update(work.task, advance=n, note=work.note, left=self._left(work))
        elif time.monotonic() - self._printed >= SILENCE and work.done != work.total:  # else its end is told at once
            self.tell(work)

    def end(self, work: "_Work", *, is_whole: bool) -> None:
        """Close the innermost piece of work; whole if nothing interrupted it."""
        self._account()
        self.open.remove(work)
        if is_whole:
            for title, piece in self.pieces.items():  # an early end leaves nothing to be waited for
                if title.startswith(f"{work.title}, ") or (title == work.title and not title.endswith(INSIDE)):
                    piece.units = piece.done
        seconds = time.monotonic() - work.started
        if self._bars is not None and work.task is not None:
            if self.open:
                self._bars.remove_task(work.task)
            else:
                self._bars.update(work.task, left=f"took {duration(seconds)}")
        elif is_whole and work.total and (seconds >= 1 or not self.open):
            self.tell(work, f"took {duration(seconds)}")
        if not self.open:
            self._stop()

    def tell(self, work: "_Work", ending: str = "") -> None:
        """Write one line about a piece of work into the log."""
        self._printed = time.monotonic()
        so_far = f"{duration(self._printed - work.started)} so far"
        count = f"{work.done:,.0f} of {work.total:,}" if work.total else so_far
        text = f"{work.title}: {' · '.join(part for part in (count, work.note, ending or self._left(work)) if part)}"
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def left(self) -> float | None:
        """Return the seconds until the whole run ends; None if nobody foresaw it."""
        return sum(piece.left() for piece in self.pieces.values()) if self.pieces else None

    def _left(self, work: "_Work") -> str:
        whole = self.left()
        if whole is not None and self.open[0].title in self.pieces:  # else it is no part of what was foreseen
            return f"about {duration(whole)} left in all"
        if not work.counted or not work.total:
            return ""
        return f"{duration(work.spent / work.counted * (work.total - work.done))} left"

    def _account(self) -> None:
        """Add the time since the last event to the innermost piece of work."""
        now = time.monotonic()
        if self.open:
            self.open[-1].spent += now - self._event
            self.open[-1].fresh += now - self._event
        self._event = now

    def _start(self) -> None:
        self._printed = time.monotonic()
        self._console = Console(stderr=True)
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description:<24}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                TextColumn("{task.fields[note]}"),
            )
            self._bars = Bars(*columns, console=self._console)
            self._bars.start()
            return
        stop = self._ticker = threading.Event()
        threading.Thread(target=self._tick, args=(stop,), daemon=True).start()

    def _tick(self, stop: threading.Event) -> None:
        """Write that the innermost work is alive whenever nothing was written for a while."""
        while not stop.wait(SILENCE / 10):
            if time.monotonic() - self._printed >= SILENCE:
                for work in self.open[-1:]:
                    self.tell(work)

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        if self._ticker is not None:
            self._ticker.set()
        self._bars = self._ticker = None


INSIDE = ", validating"
"""Ends the title of what happens several times inside of other work."""


@dataclass(eq=False)
class _Work:
    """A piece of work that is open; `spent` seconds without what is inside it, `fresh` since it last advanced."""

    title: str
    total: int
    started: float = field(default_factory=lambda: time.monotonic())
    done: int | float = 0
    counted: int | float = 0
    spent: float = 0.0
    fresh: float = 0.0
    note: str = ""
    task: TaskID | None = None


_display = _Display()


@contextmanager
def console_progress(title: str, total: int) -> Iterator[Advance]:
    """Show a bar on a terminal; elsewhere (a log file, CI) a plain line, at least every five seconds and at the end.

    Of processes that torchrun started together, the first one shows it.
    """
    if told("RANK", 0):
        yield lambda n=1, note=None: None
        return
    work = _Work(title, total)
    _display.begin(work)
    is_whole = False
    try:
        yield lambda n=1, note=None: _display.advance(work, n, note)
        is_whole = True
    finally:
        _display.end(work, is_whole=is_whole)


@contextmanager
def estimated(pieces: Mapping[str, Expected]) -> Iterator[None]:
    """Let the console tell when all of these pieces of work will have ended, by their titles, while it shows any."""
    before = _display.pieces
    _display.pieces = dict(pieces)
    try:
        yield
    finally:
        _display.pieces = before


def duration(seconds: float) -> str:
    """Write a time for people: seconds, then minutes, then hours."""
    if seconds < 9.95:
        return f"{max(seconds, 0.1):.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 570:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
