"""`thinkrank score`: answer a table of users of any length, on this machine or on a cluster."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from thinkrank.cli import options, tables


def score(
    run: Annotated[Path, typer.Argument(help="Folder of a training run, or of a saved model.")],
    users: Annotated[
        Path,
        typer.Option(
            "--input",
            callback=options.from_home,
            help="Table of users, or a folder of such tables: the column user, or user and items (a list), or user, "
            "item and perhaps timestamp.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", callback=options.from_home, help="Folder of the answers; an interrupted job there goes on."
        ),
    ],
    engine: Annotated[
        str,
        typer.Option(
            help="What calls the model: local, in this process, or ray, on a cluster.",
            callback=options.one_of("--engine", "local", "ray"),
        ),
    ] = "local",
    k: Annotated[int, typer.Option("-k", min=1, help="How many items for each user.")] = 10,
    think: Annotated[
        bool | None,
        typer.Option(help="Let the model write a thought and answer from it. [default: what validation found better]"),
    ] = None,
    seen: Annotated[
        bool | None,
        typer.Option(help="Recommend items of the history again, too. [default: as the run was trained]"),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Temperature of the thought; 0 is greedy. [default: the model's]")
    ] = None,
    reasons: Annotated[
        bool, typer.Option("--reasons", help="Say beside each item what of the data speaks for it.")
    ] = False,
    all_texts: options.AllTexts = False,
    block: Annotated[
        int,
        typer.Option(
            min=1,
            help="Users that are answered as one part: so many are in memory at a time, and are answered again if a "
            "worker dies.",
        ),
    ] = 1000,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes of the cluster at most. [default: one on every node, or every GPU]"),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads that each process computes with. [default: the machine's cores]"),
    ] = None,
    path: options.MovedPath = None,
    device: options.Device = "auto",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Answer for a minute at most, print what the whole will take for each worker, write nothing.",
        ),
    ] = False,
    json_output: options.Json = False,
) -> None:
    """Answer all users of a table into a folder of Parquet files, each as `thinkrank recommend` would.

    Parquet with one row for each user is answered in parts of --block rows. Another table is one part, so of many users
    give a folder of tables, each with all events of its users. Ctrl-C or a power cut loses the part in progress: the
    same command goes on. Ray writes the same bytes as this process, with the same --threads.

    Examples: `thinkrank score runs/demo --input users.parquet --out answers/`,
    `thinkrank score runs/demo --input users/ --out answers/ --engine ray --threads 4`,
    `thinkrank score runs/demo --input users.parquet --out answers/ --dry-run`
    """
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # before numpy is imported, which reads it once
    from thinkrank.offline import estimate_users, score_users
    from thinkrank.recipes.answering import Manner
    from thinkrank.training.progress import console_progress

    how = Manner(
        k=k,
        think=think,
        temperature=temperature,
        filter_seen=None if seen is None else not seen,
        reasons=reasons,
        every_text=all_texts,
        path=path,
        device=device,
    )
    if dry_run:
        with console_progress("measuring", 0):
            found = estimate_users(run, users, how, block=block, workers=workers or 1)
        if json_output:
            tables.print_json(found.as_dict())
        else:
            sys.stdout.write(f"{found.told()}\n")
        sys.stderr.write("nothing was written: --dry-run\n")
        return
    done = score_users(
        run, users, out, how,
        engine=engine, block=block, workers=workers, threads=threads, progress=console_progress,
    )  # fmt: skip
    if json_output:
        tables.print_json({"parts": done.parts, "kept": done.kept, "users": done.users})
        return
    kept = f"; {done.kept:,} of {done.parts:,} parts were there already" if done.kept else ""
    sys.stdout.write(f"answered {done.users:,} users into {out}{kept}\n")
