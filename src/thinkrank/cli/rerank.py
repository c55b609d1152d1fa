"""`thinkrank rerank`: write displayed lists anew."""

from pathlib import Path
from typing import Annotated

import typer

from thinkrank.cli import options, tables


def rerank(
    run: Annotated[Path, typer.Argument(help="Folder of a re-ranking run.", callback=options.run_of("rerank"))],
    source: Annotated[str, typer.Argument(help="Format of the lists: table, trivago, mind, kuairand, ebnerd.")],
    path: Annotated[Path, typer.Argument(help="Folder or zip archive of the lists.")],
    out: options.TableFile = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Places of the final list.")] = 10,
    samples: Annotated[
        int, typer.Option(min=1, help="Lists written for each request; the evaluator picks the best.")
    ] = 1,
    option: options.SourceOption = None,
    device: options.Device = "auto",
) -> None:
    """Write the final list for each displayed one, in the order in which they came.

    Feedback is not looked at and need not be there. The answer has the columns request (from 0), list (its id, where
    the lists have ids), user, place, item, title, score (log-probability of the choice),
    shown_at (its place in the displayed list), entropy_before and entropy_after (nats) and steps (latent thoughts).

    Example: `thinkrank rerank runs/rerank table shop/ --out slates.csv`
    """
    from thinkrank.recipes.answering import rerank_lists
    from thinkrank.recipes.layers import parse_assignments
    from thinkrank.training.progress import console_progress

    out, of_source = tables.check_table_file(out), parse_assignments(option or ())
    written = rerank_lists(run, source, path, of_source, k=k, samples=samples, device=device, progress=console_progress)
    tables.write_table(written, out)
