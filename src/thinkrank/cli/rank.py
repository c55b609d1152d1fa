"""`thinkrank rank`: score the candidates of a table."""

from pathlib import Path
from typing import Annotated

import typer

from thinkrank.cli import options, tables


def rank(
    run: Annotated[Path, typer.Argument(help="Folder of a ranking run.")],
    pairs: Annotated[Path, typer.Argument(help="CSV or Parquet file with the columns user and item.")],
    out: options.TableFile = None,
    device: options.Device = "auto",
) -> None:
    """Score and sort each user's candidates, with the reason for each score.

    Histories are those of the run's data set. The answer has the columns request (from 0), user, place, item, title,
    score, shown_at (the candidate's place in the file, among its user's) and, if the model thinks, reason.

    Example: `thinkrank rank runs/rank candidates.csv --out ranked.csv`
    """
    from thinkrank.recipes.answering import rank_pairs, read_pairs

    tables.write_table(rank_pairs(run, read_pairs(pairs), str(pairs), device=device), out)
