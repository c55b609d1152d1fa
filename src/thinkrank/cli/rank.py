"""`thinkrank rank`: score the candidates of a table."""

from pathlib import Path
from typing import Annotated

import typer

from thinkrank.cli import options, tables


def rank(
    run: Annotated[Path, typer.Argument(help="Folder of a ranking run.", callback=options.run_of("rank"))],
    pairs: Annotated[
        Path | None,
        typer.Argument(help="Table with the columns user and item and, if there are any, score and time or event."),
    ] = None,
    candidates: options.CandidateFile = None,
    out: options.TableFile = None,
    all_texts: options.AllTexts = False,
    path: options.MovedPath = None,
    device: options.Device = "auto",
) -> None:
    """Score and sort each user's candidates, with the reason for each score.

    Histories are those of the run's data set, up to the list's time or event if the table has one. The answer has the
    columns request (from 0), user, place, item, title, score, shown_at (the candidate's place in the file, among its
    user's) and, if the model thinks, reason. Each reason is checked: reason_claims_checked, reason_claims_true and
    reason_may_be_shown tell what came of it, and the cell of one that should not be shown is empty.

    Example: `thinkrank rank runs/rank candidates.csv --out ranked.csv`
    """
    from thinkrank.errors import ThinkrankError

    if (pairs is None) == (candidates is None):
        raise ThinkrankError("give the table of candidates: thinkrank rank RUN candidates.csv, or --candidates FILE")
    out = tables.check_table_file(out)
    from thinkrank.data.candidate_lists import read_candidate_lists
    from thinkrank.recipes.answering import rank_pairs
    from thinkrank.training.progress import console_progress

    with console_progress("reading the candidates", 0):
        offered = read_candidate_lists(pairs or candidates or "")
    table = rank_pairs(run, offered, every_text=all_texts, path=path, device=device, progress=console_progress)
    tables.write_table(table, out)
