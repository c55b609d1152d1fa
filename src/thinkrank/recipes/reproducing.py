"""Rows of published tables, run again: does each fall into its own interval?

A page of results names its tables in comments, which say what made them: `<!-- study METHOD/NAME -->` the arms of
studies/METHOD/NAME.toml, `<!-- table NAME -->` a command in docs/results/commands.toml. A row of the first is called
METHOD/NAME/ARM/MODE, one of the second NAME/SYSTEM/SPLIT.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from thinkrank._code import code_version
from thinkrank._files import atomic_write
from thinkrank.data._nearest import did_you_mean
from thinkrank.errors import ThinkrankError
from thinkrank.evaluate import ResultRow, read_results
from thinkrank.evaluate.significance import Interval
from thinkrank.evaluate.studies import ArmAnswers, read_study
from thinkrank.evaluate.trainings import trainings_intervals
from thinkrank.recipes.layers import read_toml

METRIC = "ndcg@10"
_MARKER = re.compile(r"<!-- (?P<kind>study|table) (?P<name>[\w./-]+) -->")


@dataclass(frozen=True)
class PublishedRow:
    """Hold one row of a table that a page shows.

    Attributes:
        kind: what made it: an arm of a study, or a command that writes a table.
        name: how it is called.
        metric: of its figure.
        value: the figure.
        interval: computes the interval of a study's figure, which takes seconds, or returns that of a table.
        seeds: of the trainings behind it; empty where no training has a part in it.
        minutes: that one training took, with its judgement where that was measured; None if nobody measured.
        threads: that it was made with; None if nobody wrote it down.
        superseded: why it no longer stands; empty if it does.
    """

    kind: Literal["study", "table"]
    name: str
    metric: str
    value: float
    interval: Callable[[], Interval]
    seeds: tuple[int, ...]
    minutes: float | None
    threads: int | None
    superseded: str = ""


@dataclass(frozen=True)
class Reproduced:
    """Hold what a row came to when it was run again.

    Attributes:
        row: how it is called.
        metric: of the figures.
        published: the value in the table.
        low: lower end of its interval.
        high: upper end of its interval.
        again: the value now.
        seeds: that were run; empty where no training has a part in it.
        inside: whether the value now is in the interval.
        code: commit, or version, of the code that ran.
    """

    row: str
    metric: str
    published: float
    low: float
    high: float
    again: float
    seeds: tuple[int, ...]
    inside: bool
    code: str


def published_rows(page: Path, metric: str = METRIC) -> list[PublishedRow]:
    """List the rows of a page that can be run again, those of studies and of evaluations.

    Args:
        page: in the folder docs of a copy of the source.
        metric: of their figures; rows without it are left out.

    Raises:
        ThinkrankError: if the page shows no such row.
    """
    rows = [row for kind, name in _tables(page) for row in _ROWS[kind](_root(page), name, metric)]
    if not rows:
        raise ThinkrankError(f"{page}: shows no table with {metric} that a study or a command made")
    return rows


def reproduce(
    page: Path, name: str, *, metric: str = METRIC, seeds: Sequence[int] = (), path: str | None = None, runs: Path
) -> Reproduced:
    """Run a row again, trainings and judgement, and compare it with its interval.

    What `runs` holds already is not run again, so a call that was interrupted goes on.

    Args:
        page: that shows it.
        name: of the row; its last part may be left out where that leaves one row.
        metric: of the figure.
        seeds: of the trainings; none for those of the table.
        path: file or folder of the data, where the source has none of its own.
        runs: folder for trainings and results.

    Raises:
        ThinkrankError: for an unknown row, for one that lacks an interval, or if its run fails.
    """
    row = find_row(published_rows(page, metric), name)
    figure = row.interval()
    if figure.low == figure.high:
        raise ThinkrankError(f"{row.name}: has no interval to fall into")
    chosen = tuple(seeds) if seeds and row.seeds else row.seeds
    value = _AGAIN[row.kind](_root(page), row, chosen, path, runs)
    inside = figure.low <= value <= figure.high
    return Reproduced(row.name, metric, row.value, figure.low, figure.high, value, chosen, inside, code_version())


def find_row(rows: Sequence[PublishedRow], name: str) -> PublishedRow:
    """Return the row of a name, or the only one that begins with it.

    Raises:
        ThinkrankError: if there is none, or several.
    """
    found = [row for row in rows if row.name == name] or [row for row in rows if row.name.startswith(f"{name}/")]
    if len(found) == 1:
        return found[0]
    names = [row.name for row in found or rows]
    if found:
        raise ThinkrankError(f"several rows are called {name!r}: {', '.join(names)}")
    raise ThinkrankError(f"no row is called {name!r}{did_you_mean(name, names)}")


def keep(found: Reproduced, file: Path) -> None:
    """Write what was found into a JSON list, in place of what is there of the same row and metric."""
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    kept = [one for one in kept if (one["row"], one["metric"]) != (found.row, found.metric)] + [asdict(found)]
    kept.sort(key=lambda one: (one["row"], one["metric"]))
    with atomic_write(file) as out:
        out.write((json.dumps(kept, indent=1, ensure_ascii=False) + "\n").encode())


def _tables(page: Path) -> Iterator[tuple[str, str]]:
    try:
        text = page.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ThinkrankError(f"{page}: no such page; it is in the folder docs of a copy of the source") from None
    for marker in _MARKER.finditer(text):
        yield marker["kind"], marker["name"]


def _root(page: Path) -> Path:
    return page.resolve().parents[1]


def _study_rows(root: Path, table: str, metric: str) -> Iterator[PublishedRow]:
    method, _, name = table.partition("/")
    told = read_toml(root / "studies" / method / f"{name}.toml")["study"]
    folder = root / "studies" / method / "results" / name
    for answers in read_study(folder):
        first = json.loads((folder / f"{answers.arm}-{answers.seeds[0]}.json").read_text(encoding="utf-8"))
        yield PublishedRow(
            "study",
            f"{table}/{answers.arm}/{answers.mode}",
            metric,
            float(answers.values(metric).mean()),
            partial(_interval, answers, metric),
            answers.seeds,
            sum(answers.seconds) / len(answers.seconds) / 60,
            first.get("threads"),
            told.get("superseded", ""),
        )


def _interval(answers: ArmAnswers, metric: str) -> Interval:
    values_KS = answers.values(metric)
    if answers.users_S is None:
        mean = float(values_KS.mean())
        return Interval(mean, mean, mean)
    return trainings_intervals(values_KS[None], answers.users_S)[0]


def _evaluated_rows(root: Path, table: str, metric: str) -> Iterator[PublishedRow]:
    for row in read_results(root / "docs" / "results" / f"{table}.json"):
        if row.metric == metric and row.low is not None and row.high is not None:
            yield _published(table, row)


def _published(table: str, row: ResultRow) -> PublishedRow:
    figure = Interval(row.value, row.low or 0.0, row.high or 0.0)
    name = f"{table}/{row.system}/{row.split}"
    return PublishedRow("table", name, row.metric, row.value, lambda: figure, tuple(row.seeds), None, None)


def _study_again(root: Path, row: PublishedRow, seeds: Sequence[int], path: str | None, runs: Path) -> float:
    method, name, arm, mode = row.name.split("/", 3)
    folder = root / "studies" / method
    results = runs / "results" / method
    command = [str(folder / "study.py"), str(folder / f"{name}.toml"), "--arm", arm, "--runs", str(runs)]
    command += ["--results", str(results), *(word for seed in seeds for word in ("--seed", str(seed)))]
    _run(root, [*command, *(["--path", path] if path else [])], row)
    answers = [one for one in read_study(results / name) if (one.arm, one.mode) == (arm, mode)]
    values_KS = answers[0].values(row.metric)
    return float(values_KS[[answers[0].seeds.index(seed) for seed in seeds]].mean())


def _command_again(root: Path, row: PublishedRow, seeds: Sequence[int], path: str | None, runs: Path) -> float:
    table = row.name.partition("/")[0]
    file = root / "docs" / "results" / "commands.toml"
    commands: Mapping[str, Any] = read_toml(file)
    if table not in commands:
        raise ThinkrankError(f"{file}: does not say what made {table}")
    out = runs / "results" / f"{table}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    script, *words = commands[table]["command"]
    if not out.exists():
        _run(root, [str(root / script), *words, *(["--path", path] if path else []), "--out", str(out)], row)
    return find_result(read_results(out), row).value


def find_result(results: Sequence[ResultRow], row: PublishedRow) -> ResultRow:
    """Return the result that a row shows.

    Raises:
        ThinkrankError: if it is not there.
    """
    table = row.name.partition("/")[0]
    for one in results:
        if one.metric == row.metric and _published(table, one).name == row.name:
            return one
    raise ThinkrankError(f"{row.name}: what was run again has no such row")


def _run(root: Path, command: Sequence[str], row: PublishedRow) -> None:
    """Run a script of the source as a process of its own, with as many threads as the row was made with."""
    threads = {} if row.threads is None else {"OMP_NUM_THREADS": str(row.threads)}
    words = [sys.executable, *command]
    done = subprocess.run(words, cwd=root, env={**os.environ, **threads}, check=False)  # noqa: S603 - the source's own
    if done.returncode:
        raise ThinkrankError(f"{row.name}: {' '.join(command)} ended with code {done.returncode}; see above")


_ROWS = {"study": _study_rows, "table": _evaluated_rows}
_AGAIN = {"study": _study_again, "table": _command_again}
