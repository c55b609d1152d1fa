"""`thinkrank compare`: runs against runs, on the samples on which all of them were judged."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from thinkrank.cli import options, tables
from thinkrank.training.progress import console_progress

if TYPE_CHECKING:
    from thinkrank.recipes.comparing import Compared


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="Folders of judged runs, the first is compared with; runs/ml:EASE names a system of one."),
    ],
    metric: Annotated[str, typer.Option(help="What is compared, such as ndcg@10, hit@10 or mrr.")] = "ndcg@10",
    json_output: options.Json = False,
) -> None:
    """Test whether runs differ from the first one, by users, on the same samples.

    Every run must have been judged by `thinkrank evaluate` with the same options, or by `thinkrank probe` on all test
    samples: other data, another part or other samples are refused. p values are of a paired test that flips the signs
    of users, corrected by Holm for the runs; "visible" is the smallest difference that such a test sees with 80 %
    power: one below it may be there unseen.

    Examples: `thinkrank compare runs/plain runs/thoughts runs/wide`, `thinkrank compare runs/ml:EASE runs/ml --json`
    """
    with console_progress("starting", 0):
        from thinkrank.recipes.comparing import compared

    lines, about = compared(runs, metric)
    if json_output:
        tables.print_json({"about": dict(about), "runs": [asdict(line) for line in lines]}, indent=1)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{metric} on {about['part']}, {about['users']:,} users", title_justify="left")
    for column in ("run", "system", metric, "difference", "95 %", "p", "p (Holm)", "visible"):
        table.add_column(column, justify="left" if column in ("run", "system") else "right", overflow="fold")
    for line in lines:
        shown = [escape(line.run), escape(line.system), f"{line.value:.4f}"]
        if line.difference is None:
            table.add_row(*shown, "compared with")
            continue
        interval = f"{line.low:+.4f} to {line.high:+.4f}"
        rest = [_figure(line.p_value), _figure(line.corrected), _figure(line.visible)]
        table.add_row(*shown, f"{line.difference:+.4f}", interval, *rest)
    Console().print(table)
    sys.stdout.write("".join(f"{_sentence(line, lines[0].value, metric)}\n" for line in lines[1:]))


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _sentence(line: "Compared", first: float, metric: str) -> str:
    """Say in words what a test found."""
    from thinkrank.evaluate.results import format_share

    p, difference = line.corrected, line.difference or 0.0
    if p is not None and p < 0.05:
        return f"{line.run} is {'better' if difference > 0 else 'worse'} in {metric} (p = {p:.3f})"
    seen = ""
    if line.visible is not None:
        share = f" ({format_share(line.visible, first)})" if first > 0 else ""
        seen = f": differences below {line.visible:.4f}{share} cannot be seen on so few users"
    return f"{line.run}: no difference in {metric} is shown{seen}"
