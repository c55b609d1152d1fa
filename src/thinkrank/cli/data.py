"""`thinkrank data`: look at a data set, and keep a prepared copy of it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinkrank.cli import options, tables

if TYPE_CHECKING:
    from thinkrank.data import Dataset

app = typer.Typer(no_args_is_help=True, help="Look at a data set, and keep a prepared copy of it.")

Source = Annotated[
    str,
    typer.Argument(
        help="movielens-100k, movielens, amazon-2018, amazon-2023, table, synthetic, synthetic-relay, "
        "or a folder that `data prepare` wrote."
    ),
]


@app.command()
def describe(
    source: Source,
    path: options.DataPath = None,
    option: options.SourceOption = None,
    filters: options.Filter = None,
    json_output: options.Json = False,
) -> None:
    """Show what a data set holds: counts, dates, texts, history lengths, and what was dropped while reading.

    Example: `thinkrank data describe movielens --path ml-latest-small`
    """
    dataset = _load(source, path, option, filters)
    if json_output:
        tables.print_json(dataset.describe(), indent=2)
    else:
        tables.print_facts(dataset.name, dataset.describe())


@app.command()
def prepare(
    source: Source,
    out: Annotated[Path, typer.Option("--out", help="Folder for the prepared data set.")],
    path: options.DataPath = None,
    option: options.SourceOption = None,
    filters: options.Filter = None,
    json_output: options.Json = False,
) -> None:
    """Read, check and filter a data set once, and keep it as Parquet with a fingerprint.

    Example: `thinkrank data prepare amazon-2023 -o category=Office_Products -f k_core=5 --out data/office`
    """
    dataset = _load(source, path, option, filters)
    dataset.save(out)
    if json_output:
        tables.print_json({"folder": str(out), "fingerprint": dataset.fingerprint})
        return
    tables.print_facts(dataset.name, dataset.describe())
    sys.stdout.write(f"saved to {out}; use that folder wherever a source is asked for\n")


def _load(source: str, path: str | None, option: list[str] | None, filters: list[str] | None) -> "Dataset":
    from thinkrank.recipes.data import DataSettings
    from thinkrank.recipes.layers import parse_assignment, validated

    return validated(
        DataSettings,
        {
            "source": source,
            "path": path,
            "options": dict(map(parse_assignment, option or [])),
            "filters": dict(map(parse_assignment, filters or [])),
        },
    ).load()
