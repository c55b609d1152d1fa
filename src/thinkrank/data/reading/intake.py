"""What is wrong with the rows of the files that are being read, collected instead of raised one by one.

Whoever reads files opens an `Intake`; readers and checks report to it without knowing who asked. Rows at fault are left
out of what is read on, so one pass finds every fault of every file. Outside of an intake the first fault is raised.
"""

import bisect
import contextvars
import json
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from thinkrank.errors import ThinkrankError

OnBad = Literal["refuse", "drop"]
"""What to do with rows that can't be right: refuse the data, or leave them out and say so."""

Stand = Literal["python", "command line", "toml"]
"""Where a user writes settings, and so the syntax that advice has."""

STAND: contextvars.ContextVar[Stand] = contextvars.ContextVar("stand", default="python")

_SHOWN = 5
"""Row numbers kept of each kind of fault."""


@dataclass(frozen=True)
class Place:
    """Say where a row is.

    Attributes:
        file: its name.
        row: its number, from 1, the header not counted.
        line: its first line in an editor, from 1; None where a file has no lines.
    """

    file: str
    row: int
    line: int | None = None

    def __str__(self) -> str:
        line = f" (line {self.line})" if self.line not in (None, self.row) else ""
        return f"{self.file}, row {self.row}{line}"

    @property
    def number(self) -> int:
        """Return what a person looks for: the line, or the row where there are no lines."""
        return self.row if self.line is None else self.line


@dataclass
class Fault:
    """Hold one kind of fault of one file.

    Attributes:
        first: where it occurs first.
        problem: what is wrong there and the way out, the value of that row included.
        kind: the same with ``{value}`` where the value stands.
        count: of rows.
        places: the first few.
        row_fault: whether rows can be left out; if not, the file cannot be read at all.
    """

    first: Place
    problem: str
    kind: str
    count: int = 0
    places: list[Place] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.first}: {self.problem}"


@dataclass
class Intake:
    """Collect faults, notices and rows that were left out.

    Attributes:
        on_bad: whether faults are raised in the end or their rows left out.
        goes_on: whether reading goes on after a file that could not be read, to see what else there is.
        faults: by file and kind.
        failures: of files that could not be read at all.
        notices: what was recognised, repaired or counted as unknown, one line each.
        takes: options that can be told to whoever reads; None for all that advice names.
        dropped: rows at fault, as `file`, `row`, `line`, `fault`, `values`; kept where they are to be left out.
    """

    on_bad: OnBad = "refuse"
    goes_on: bool = False
    faults: dict[tuple[str, str], Fault] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    takes: Collection[str] | None = None
    dropped: list[dict[str, Any]] = field(default_factory=list)
    _headers: dict[str, int] = field(default_factory=dict)
    _breaks: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict)

    def has_lines(self, file: str, header: int) -> None:
        """Remember that a file is text whose first row comes after `header` lines."""
        self._headers[file] = header
        self._breaks[file] = ([], [])

    def has_breaks(self, file: str, row: int, breaks: int) -> None:
        """Remember that a row of a file holds line breaks."""
        rows, sums = self._breaks[file]
        rows.append(row)
        sums.append((sums[-1] if sums else 0) + breaks)

    def place(self, file: str, row: int) -> Place:
        """Find the line of a row."""
        if file not in self._headers:
            return Place(file, row)
        rows, sums = self._breaks[file]
        earlier = bisect.bisect_left(rows, row)
        return Place(file, row, row + self._headers[file] + (sums[earlier - 1] if earlier else 0))

    def report(self, file: str, kind: str, rows: Sequence[tuple[int, Any]], count: int | None = None) -> None:
        """Add rows with one kind of fault, in their order, each with the value at fault.

        Args:
            file: their name.
            kind: what is wrong and the way out; ``{value}`` stands for the value.
            rows: number and value of the first ones, at least one.
            count: of all of them, if there are more.
        """
        first = self.place(file, rows[0][0])
        fault = self.faults.setdefault((file, kind), Fault(first, with_value(kind, rows[0][1]), kind))
        fault.count += len(rows) if count is None else count
        wanted = max(0, _SHOWN - len(fault.places))
        fault.places += [self.place(file, row) for row, _ in rows[:wanted]]

    def drop(self, file: str, kind: str, row: int, values: object) -> None:
        """Keep a row that is left out, where rows are to be left out."""
        if self.on_bad != "drop":
            return
        place = self.place(file, row)
        text = values if isinstance(values, str) else json.dumps(values, ensure_ascii=False, default=str)
        self.dropped.append(
            {"file": file, "row": row, "line": place.line, "fault": kind.replace(" {value}", ""), "values": text}
        )

    @property
    def num_faults(self) -> int:
        """Count the rows at fault."""
        return sum(fault.count for fault in self.faults.values())

    def error(self, how_to_list: str) -> ThinkrankError:
        """Tell the first fault, how many more there are and how to see them."""
        first = next(iter(self.faults.values()))
        more = self.num_faults - 1
        if not more:
            return ThinkrankError(str(first))
        rows = f"{more:,} more {'row is' if more == 1 else 'rows are'} at fault"
        drop = setting("on_bad", "drop", of_source=False)
        return ThinkrankError(f"{first} {rows}: {how_to_list} lists them all, {drop} leaves them out.")


_CURRENT: contextvars.ContextVar[Intake | None] = contextvars.ContextVar("intake", default=None)


def current() -> Intake | None:
    """Return the intake that is open, if one is."""
    return _CURRENT.get()


@contextmanager
def opened(intake: Intake) -> Iterator[Intake]:
    """Let everything that is read within report to this intake."""
    token = _CURRENT.set(intake)
    try:
        yield intake
    finally:
        _CURRENT.reset(token)


def report_row(file: str, row: int, kind: str, value: object = None, *, values: object = None) -> None:
    """Report one row; see `Intake.report`.

    Raises:
        ThinkrankError: if no intake is open.
    """
    intake = current()
    if intake is None:
        raise ThinkrankError(f"{Place(file, row)}: {with_value(kind, value)}")
    intake.report(file, kind, [(row, value)])
    intake.drop(file, kind, row, values)


def note(notice: str) -> None:
    """Add a notice to the open intake, if there is one; the same one once."""
    intake = current()
    if intake is not None and notice not in intake.notices:
        intake.notices.append(notice)


def takes(option: str) -> bool:
    """Tell whether whoever reads can be told an option, so that advice may name it."""
    intake = current()
    return intake is None or intake.takes is None or option in intake.takes


@contextmanager
def attempt() -> Iterator[None]:
    """Let a fault that ends the reading of one file not hide what is wrong with the next, if the intake goes on."""
    intake = current()
    if intake is None or not intake.goes_on:
        yield
        return
    try:
        yield
    except ThinkrankError as error:
        intake.failures.append(str(error))


def with_value(kind: str, value: object) -> str:
    """Put the value at fault into a message; quoted, a text with line breaks still makes one line."""
    return kind.replace("{value}", repr(value[:80]) if isinstance(value, str) else str(value))


def setting(name: str, value: object, *, of_source: bool = True) -> str:
    """Write a setting as a user would where the user stands: ``-o encoding=cp1252``, ``encoding='cp1252'``, TOML.

    Args:
        name: of the setting.
        value: text, number, truth, list of texts or table of texts.
        of_source: whether it is an option of the source and not of the data settings.
    """
    stand = STAND.get()
    if stand == "python":
        return f"{name}={value!r}"
    if stand == "toml":
        return f"{'options.' if of_source else ''}{name} = {_toml(value)} under [data]"
    if not of_source and value is True:
        return f"--{name.replace('_', '-')}"
    if not of_source:
        return f"--{name.replace('_', '-')} {shlex.quote(str(value))}"
    return f"-o {shlex.quote(f'{name}={value if isinstance(value, str) else _toml(value)}')}"


def all_settings(values: Mapping[str, object]) -> str:
    """Write several options of a source, as `setting` does each of them."""
    return (" " if STAND.get() == "command line" else ", ").join(setting(name, value) for name, value in values.items())


def filter_by(name: str, value: object) -> str:
    """Write a filter as a user would where the user stands."""
    match STAND.get():
        case "python":
            return f"filters={{{name!r}: {value!r}}}"
        case "toml":
            return f"filters.{name} = {_toml(value)} under [data]"
    return f"-f {shlex.quote(f'{name}={value if isinstance(value, str) else _toml(value)}')}"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)
