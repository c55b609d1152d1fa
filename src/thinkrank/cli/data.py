"""`thinkrank data`: look at a data set, and keep a prepared copy of it."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="Look at a data set, and keep a prepared copy of it.")

Source = Annotated[
    str,
    typer.Argument(
        help="movielens-100k, movielens, amazon-2018, amazon-2023, table, synthetic, synthetic-relay, "
        "or a folder that `data prepare` wrote."
    ),
]
Path_ = Annotated[
    str | None, typer.Option("--path", help="File or folder to read; nothing is downloaded then. [default: find it]")
]
Option = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", help="Option of the source as key=value, such as category=Office_Products."),
]
Filter = Annotated[
    list[str] | None, typer.Option("--filter", "-f", help="Filter as key=value, such as k_core=5. Repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command()
def describe(
    source: Source, path: Path_ = None, option: Option = None, filters: Filter = None, json_output: Json = False
) -> None:
    """Show what a data set holds: counts, dates, texts, history lengths, and what was dropped while reading.

    Example: `thinkrank data describe movielens --path ml-latest-small`
    """
    dataset = _load(source, path, option, filters)
    description = dataset.describe()
    if json_output:
        sys.stdout.write(json.dumps(description, indent=2) + "\n")
        return
    _print(dataset.name, description)


@app.command()
def prepare(
    source: Source,
    out: Annotated[Path, typer.Option("--out", help="Folder for the prepared data set.")],
    path: Path_ = None,
    option: Option = None,
    filters: Filter = None,
    json_output: Json = False,
) -> None:
    """Read, check and filter a data set once, and keep it as Parquet with a fingerprint.

    Example: `thinkrank data prepare amazon-2023 -o category=Office_Products -f k_core=5 --out data/office`
    """
    dataset = _load(source, path, option, filters)
    dataset.save(out)
    if json_output:
        sys.stdout.write(json.dumps({"folder": str(out), "fingerprint": dataset.fingerprint}) + "\n")
        return
    _print(dataset.name, dataset.describe())
    sys.stdout.write(f"saved to {out}; use that folder wherever a source is asked for\n")


def _load(source: str, path: str | None, options: list[str] | None, filters: list[str] | None) -> Any:
    from thinkrank.recipes.settings import DataSettings, parse_assignment, validated

    return validated(
        DataSettings,
        {
            "source": source,
            "path": path,
            "options": dict(map(parse_assignment, options or [])),
            "filters": dict(map(parse_assignment, filters or [])),
        },
    ).load()


def _print(name: str, description: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(name), title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for key, value in _flat(description):
        table.add_row(escape(key), escape(value))
    Console().print(table)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        label = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            rows += _flat(value, f"{label}, ")
        elif isinstance(value, list | tuple):
            rows += [(label, str(part)) for part in value]
        else:
            rows.append((label, f"{value:,}" if isinstance(value, int) else _number(value)))
    return rows


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
