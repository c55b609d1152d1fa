"""Options that several commands have, and what they come to."""

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinkrank.errors import ThinkrankError

if TYPE_CHECKING:
    from thinkrank.recipes.layers import Layers


def one_of(option: str, *values: str) -> Callable[[str | None], str | None]:
    """Make a check of an option's value that runs before anything is imported or loaded."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in values:
            near = difflib.get_close_matches(value, values, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ThinkrankError(f"{option} must be {' or '.join(values)}, not {value!r}{hint}")
        return value

    return check


def a_device(value: str) -> str:
    """Refuse what is no device's name; whether this machine has it is seen when it is needed."""
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", value):
        raise ThinkrankError(f"--device must be auto, cpu, cuda, cuda:1 or mps, not {value!r}")
    return value


def run_of(*stages: str) -> Callable[[Path], Path]:
    """Make a check that a folder is no run of another stage, before anything is imported or loaded."""

    def check(folder: Path) -> Path:
        from thinkrank.recipes.kinds import stage_of

        stage = stage_of(folder)
        if stage is not None and stage not in stages:
            asked = "recommend" if stage in ("retrieve", "cascade") else stage
            raise ThinkrankError(
                f"{folder} is a run of `thinkrank train {stage}`, not of {' or '.join(stages)}: "
                f"ask it with `thinkrank {asked} {folder}`"
            )
        return folder

    return check


def a_run(folder: Path) -> Path:
    """Refuse a folder that holds no run, before anything is imported or loaded."""
    from thinkrank.recipes.kinds import stage_of

    if stage_of(folder) is None:
        raise ThinkrankError(f"{folder}: no run here. Give the --out folder of a training run.")
    return folder


def from_home(path: Path | None) -> Path | None:
    """Put the home folder in the place of a leading ``~``: shells leave that of ``--out=~/x`` as it is."""
    from thinkrank._files import expanded

    return None if path is None else expanded(path)


Source = Annotated[str | None, typer.Argument(help="Data source or prepared folder. [default: movielens-100k]")]
Out = Annotated[
    Path, typer.Option("--out", callback=from_home, help="Folder of the run; an interrupted run there goes on.")
]
DataPath = Annotated[
    str | None, typer.Option("--path", help="File or folder to read; nothing is downloaded then. [default: find it]")
]
MovedPath = Annotated[
    str | None,
    typer.Option("--path", help="Where the run's data is now. [default: where it was when the run was made]"),
]
CandidateFile = Annotated[
    Path | None,
    typer.Option(
        "--candidates",
        callback=from_home,
        help="Table of a first stage's lists: user, item and perhaps score, and time or event.",
    ),
]
ListPath = Annotated[str | None, typer.Option("--path", help="Folder or zip archive of the source's files.")]
SourceOption = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", help="Option of the source as key=value, such as category=Office_Products."),
]
Filter = Annotated[
    list[str] | None, typer.Option("--filter", "-f", help="Filter as key=value, such as k_core=5. Repeatable.")
]
OnBad = Annotated[
    str | None,
    typer.Option(
        "--on-bad", help="What becomes of rows that can't be right: refuse the data, or drop them. [default: refuse]"
    ),
]
BadRows = Annotated[
    Path | None,
    typer.Option("--bad-rows", callback=from_home, help="File to write dropped rows to, CSV or Parquet by its name."),
]
Repeats = Annotated[
    bool | None,
    typer.Option(
        "--repeats/--no-repeats",
        help="People take things again: train, judge and recommend with items of the history. [default: no]",
        show_default=False,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        help="How train, valid and test are cut: temporal or leave-last-out. [default: temporal]",
        callback=one_of("--split", "temporal", "leave-last-out"),
    ),
]
Config = Annotated[
    Path | None, typer.Option("--config", callback=from_home, help="TOML file of settings, laid over the defaults.")
]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", help="One setting as key=value, such as model.backbone=tiny. Repeatable.")
]
Device = Annotated[
    str, typer.Option(help="Where models are computed: auto, cpu, cuda, cuda:1 or mps.", callback=a_device)
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print every setting as TOML and the plan: hours, tokens, bytes in memory and on disk; write nothing.",
    ),
]
Ranks = Annotated[
    int, typer.Option("--ranks", min=1, help="With --dry-run, plan for so many processes that share every update.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
AllTexts = Annotated[
    bool,
    typer.Option("--all-texts", help="Also show thoughts and reasons that loop, invent titles or claim what is false."),
]
TableFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        callback=from_home,
        help="File to write: CSV, Parquet or JSON lines, by its name (.csv, .parquet, .jsonl). "
        "[default: CSV on the screen]",
    ),
]


def layers(
    source: str | None,
    path: str | None,
    option: list[str] | None,
    config: Path | None,
    assignments: list[str] | None,
    *,
    filters: list[str] | None = None,
    split: str | None = None,
    on_bad: str | None = None,
    repeats: bool | None = None,
) -> "Layers":
    """Collect settings; folders are made absolute, so that a run can be found from anywhere."""
    from thinkrank.recipes.data import prepared_folder
    from thinkrank.recipes.layers import Layers

    folder = None if source is None else prepared_folder(source)
    if config is not None and path is None and not option:
        from thinkrank.data.reading.intake import STAND

        STAND.set("toml")
    told = {key: value for key, value in (("on_bad", on_bad), ("repeats", repeats)) if value is not None}
    return Layers(
        config=config,
        source=source if folder is None else str(folder.resolve()),
        path=None if path is None else str(Path(path).expanduser().resolve()),
        split=split,
        options=option or (),
        filters=filters or (),
        tables=[{"data": told}] if told else (),
        assignments=assignments or (),
    )
