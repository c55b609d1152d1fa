"""`thinkrank reproduce`: rows of published tables, run again."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinkrank._files import check_writable
from thinkrank.cli import options, tables
from thinkrank.training.progress import console_progress

if TYPE_CHECKING:
    from thinkrank.recipes.reproducing import PublishedRow, Reproduced


def reproduce(
    rows: Annotated[
        list[str], typer.Argument(help="PAGE#ROW, such as docs/results.md#r2ec/relay/recpo; PAGE alone lists its rows.")
    ],
    metric: Annotated[str, typer.Option(help="Which figure of the row is judged.")] = "ndcg@10",
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="Seed of a training; repeatable, those of the table by default.")
    ] = None,
    path: Annotated[
        str | None, typer.Option(help="File or folder of the data, where the source has none of its own.")
    ] = None,
    runs: Annotated[
        Path,
        typer.Option(
            callback=options.from_home, help="Folder for trainings and results; what it holds is not run again."
        ),
    ] = Path("runs/reproduce"),
    out: Annotated[
        Path | None,
        typer.Option(callback=options.from_home, help="JSON list into which what was found is written, too."),
    ] = None,
    json_output: options.Json = False,
) -> None:
    """Run rows of published tables again, and tell whether each falls into its own interval.

    A row of a study is METHOD/NAME/ARM/MODE: the arm is trained again, with the seeds of the table, and judged on the
    same samples. A row of another table is NAME/SYSTEM/SPLIT: the command that made the table runs again. It takes a
    copy of the source, with its folders docs and studies. Ends with code 1 if a row falls outside. Networks among
    baselines are tuned for minutes of the clock, so run their rows on a machine that does nothing else.

    Examples: `thinkrank reproduce docs/results.md` lists rows; `thinkrank reproduce docs/results.md#r2ec/relay/recpo`
    """
    if out is not None:
        check_writable(out.parent, otherwise="name another file with --out")
    with console_progress("starting", 0):
        from thinkrank.recipes import reproducing

    found = []
    for where in rows:
        page, _, row = where.partition("#")
        if not row:
            _list(reproducing.published_rows(Path(page), metric), json_output=json_output)
            continue
        one = reproducing.reproduce(Path(page), row, metric=metric, seeds=seeds or (), path=path, runs=runs.resolve())
        if out is not None:
            reproducing.keep(one, out)
        if not json_output:
            sys.stdout.write(f"{_sentence(one)}\n")
        found.append(one)
    if json_output and found:
        tables.print_json([asdict(one) for one in found], indent=1)
    if not all(one.inside for one in found):
        raise typer.Exit(1)


def _list(rows: "list[PublishedRow]", *, json_output: bool) -> None:
    if json_output:
        shown = ("name", "metric", "value", "seeds", "minutes", "threads", "superseded")
        tables.print_json([{key: getattr(row, key) for key in shown} for row in rows], indent=1)
        return
    width = max(len(row.name) for row in rows)
    for row in rows:
        minutes = "" if row.minutes is None else f"  {row.minutes:.1f} minutes"
        seeds = f"  seeds {' '.join(map(str, row.seeds))}" if row.seeds else ""
        superseded = "  superseded" if row.superseded else ""
        sys.stdout.write(f"{row.name:<{width}}  {row.metric} {row.value:.4f}{minutes}{seeds}{superseded}\n")


def _sentence(one: "Reproduced") -> str:
    """Say in words what came of a row."""
    inside = "inside" if one.inside else "OUTSIDE"
    seeds = f", seeds {' '.join(map(str, one.seeds))}" if one.seeds else ""
    return (
        f"{one.row}: {one.metric} {one.again:.4f}{seeds}, {inside} the published {one.published:.4f} "
        f"[{one.low:.4f} to {one.high:.4f}]"
    )
