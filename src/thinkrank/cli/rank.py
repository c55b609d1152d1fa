"""`thinkrank rank`: score the candidates of a table."""

from pathlib import Path
from typing import Annotated

import typer

from thinkrank.cli import options, tables


def rank(
    run: Annotated[Path, typer.Argument(help="Folder of a ranking run.")],
    pairs: Annotated[Path, typer.Argument(help="CSV or Parquet file with the columns user and item.")],
    out: options.TableFile = None,
    all_texts: options.AllTexts = False,
    device: options.Device = "auto",
) -> None:
    """Score and sort each user's candidates, with the reason for each score.

    Histories are those of the run's data set. The answer has the columns request (from 0), user, place, item, title,
    score, shown_at (the candidate's place in the file, among its user's) and, if the model thinks, reason. Each reason
    is checked: reason_claims_checked, reason_claims_true and reason_may_be_shown tell what came of it, and the cell of
    one that should not be shown is empty.

    Example: `thinkrank rank runs/rank candidates.csv --out ranked.csv`
    """
    from thinkrank.recipes.answering import rank_pairs, read_pairs

    table = rank_pairs(run, read_pairs(pairs), str(pairs), every_text=all_texts, device=device)
    tables.write_table(table, out)
