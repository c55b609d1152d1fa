"""`thinkrank rank`: score the candidates of a table."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinkrank.cli.train import Device

if TYPE_CHECKING:
    import polars as pl

    from thinkrank.data import Dataset
    from thinkrank.rank import R2Rank


def rank(
    run: Annotated[Path, typer.Argument(help="Folder of a ranking run.")],
    pairs: Annotated[Path, typer.Argument(help="CSV or Parquet file with the columns user and item.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="CSV or Parquet file to write; the screen by default.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Score and sort each user's candidates, with the reason for each score.

    Histories are those of the run's data set. The answer has the columns user, place, item, title, score and, if the
    model thinks, reason.

    Example: `thinkrank rank runs/rank candidates.csv --out ranked.csv`
    """
    from thinkrank.errors import ThinkrankError
    from thinkrank.rank import R2Rank
    from thinkrank.recipes.settings import RankSettings

    if not (run / "model" / "config.json").is_file():
        raise ThinkrankError(f"{run}: no trained ranker here; run `thinkrank train rank` first")
    table = read_pairs(pairs)
    dataset = RankSettings.from_run(run).data.load()
    model = R2Rank.from_pretrained(run / "model", device=device)
    answer = ranked(model, dataset, table, str(pairs))
    if out is None:
        sys.stdout.write(answer.write_csv())
    else:
        write_table(answer, out)
        sys.stderr.write(f"wrote {len(answer)} rows to {out}\n")


def read_pairs(path: Path) -> "pl.DataFrame":
    """Read a table of users and candidates.

    Raises:
        ThinkrankError: if it cannot be read, lacks a column, has an empty cell, or names a pair twice.
    """
    import polars as pl

    from thinkrank.errors import ThinkrankError

    if not path.is_file():
        raise ThinkrankError(f"{path}: there is no such file")
    try:
        table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ThinkrankError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from error
    for name in ("user", "item"):
        if name not in table.columns:
            raise ThinkrankError(f"{path}: no column {name!r}; it has {', '.join(table.columns) or 'none'}")
    table = table.select(pl.col("user", "item").cast(pl.String))
    if table.null_count().sum_horizontal()[0]:
        row = table.select(pl.any_horizontal(pl.all().is_null()).arg_true())[0, 0]
        raise ThinkrankError(f"{path}: row {row + 1} has an empty cell")
    twice = table.filter(table.is_duplicated())
    if len(twice):
        raise ThinkrankError(f"{path}: user {twice[0, 'user']!r} has item {twice[0, 'item']!r} twice")
    return table


def ranked(model: "R2Rank", dataset: "Dataset", table: "pl.DataFrame", where: str) -> "pl.DataFrame":
    """Answer a table of users and candidates, users in the order they came in.

    Raises:
        ThinkrankError: naming an unknown user or item.
    """
    import numpy as np
    import polars as pl

    from thinkrank.errors import ThinkrankError

    rows = {item: row for row, item in enumerate(model.catalogue.ids)}
    unknown = next((item for item in table["item"] if item not in rows), None)
    if unknown is not None:
        raise ThinkrankError(f"{where}: item {unknown!r} is not in the model's catalogue")
    users = table["user"].unique(maintain_order=True).to_list()
    own = {user: [rows[item] for item in part["item"]] for (user,), part in table.group_by("user", maintain_order=True)}
    candidates_BN = np.full((len(users), max(map(len, own.values()), default=0)), -1, dtype=np.int32)
    for to, user in zip(candidates_BN, users, strict=True):
        to[: len(own[user])] = own[user]
    ranking = model.rank([dataset.history(user) for user in users], candidates_BN)
    answers = []
    for b, user in enumerate(users):
        for place in range(len(own[user])):
            row = int(ranking.items_BK[b, place])
            answer = {
                "user": user,
                "place": place + 1,
                "item": model.catalogue.ids[row],
                "title": model.catalogue.titles[row],
                "score": float(ranking.scores_BK[b, place]),
            }
            answers.append(answer if ranking.reasons is None else answer | {"reason": ranking.reasons[b][place].text})
    return pl.DataFrame(answers)


def write_table(table: "pl.DataFrame", path: Path) -> None:
    """Write CSV, or Parquet where the name says so, whole or not at all."""
    from thinkrank._files import atomic_write

    with atomic_write(path) as file:
        if path.suffix == ".parquet":
            table.write_parquet(file)
        else:
            file.write(table.write_csv().encode())
