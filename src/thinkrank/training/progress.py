"""Progress of long work: a count, a rate and the time that remains, on stderr so that stdout stays clean."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

Advance = Callable[..., None]
"""Called as `advance(n)` or `advance(n, note="loss 6.4")` when n more units are done."""

Progress = Callable[[str, int], AbstractContextManager[Advance]]
"""`with progress("training", total) as advance:` shows one piece of work."""


@contextmanager
def no_progress(title: str, total: int) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda n=1, note="": None


@contextmanager
def console_progress(title: str, total: int) -> Iterator[Advance]:
    """Show a bar on a terminal; elsewhere (a log file, CI) a plain line at every tenth of the work."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_lines(console, title, total)
        return
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, console=console) as bars:
        task = bars.add_task(title, total=total, note="")

        def advance(n: int = 1, note: str | None = None) -> None:
            bars.update(task, advance=n)
            if note is not None:
                bars.update(task, note=note)

        yield advance


def _plain_lines(console: Console, title: str, total: int) -> Advance:
    done, tenth, latest, started = 0, 0, "", time.monotonic()

    def advance(n: int = 1, note: str | None = None) -> None:
        nonlocal done, tenth, latest
        done += n
        latest = note if note is not None else latest
        if 10 * done // max(total, 1) > tenth:
            tenth = 10 * done // max(total, 1)
            left = (time.monotonic() - started) / done * (total - done) / 60
            text = f"{title}: {done:,} of {total:,}, {left:.1f} minutes left  {latest}"
            console.print(text.rstrip(), highlight=False, soft_wrap=True)

    return advance
