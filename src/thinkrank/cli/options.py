"""Options that several commands have, and what they come to."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from thinkrank.recipes.layers import Layers

Source = Annotated[str | None, typer.Argument(help="Data source or prepared folder. [default: movielens-100k]")]
Out = Annotated[Path, typer.Option("--out", help="Folder of the run; an interrupted run there goes on.")]
DataPath = Annotated[
    str | None, typer.Option("--path", help="File or folder to read; nothing is downloaded then. [default: find it]")
]
MovedPath = Annotated[
    str | None, typer.Option("--path", help="Where the run's data is now. [default: where it was when the run was made]")
]
CandidateFile = Annotated[
    Path | None,
    typer.Option(
        "--candidates", help="Table of a first stage's lists: user, item and perhaps score, and time or event."
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
    Path | None, typer.Option("--bad-rows", help="File to write dropped rows to, CSV or Parquet by its name.")
]
Repeats = Annotated[
    bool | None,
    typer.Option(
        "--repeats/--no-repeats",
        help="People take things again: train, judge and recommend with items of the history. [default: no]",
        show_default=False,
    ),
]
Split = Annotated[str | None, typer.Option(help="temporal or leave-last-out. [default: temporal]")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file of settings, laid over the defaults.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", help="One setting as key=value, such as model.backbone=tiny. Repeatable.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
AllTexts = Annotated[
    bool,
    typer.Option("--all-texts", help="Also show thoughts and reasons that loop, invent titles or claim what is false."),
]
TableFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="File to write: CSV, Parquet or JSON lines, by its name (.csv, .parquet, .jsonl). [default: CSV on the screen]",
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
