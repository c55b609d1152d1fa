"""`thinkrank recommend`: ask a trained retriever."""

from pathlib import Path
from typing import Annotated

import typer

from thinkrank.cli import options, tables


def recommend(
    run: Annotated[Path, typer.Argument(help="Folder of a training run, or of a saved model.")] = Path("runs/demo"),
    user: Annotated[str | None, typer.Option("--user", "-u", help="A user id of the run's data set.")] = None,
    history: Annotated[
        list[str] | None,
        typer.Option("--history", "-H", help="A title or item id, oldest first. Repeat it for each item."),
    ] = None,
    users: Annotated[
        str | None,
        typer.Option(
            help="Answer many at once: all users of the run's data, or a file with the column user, or a file of new "
            "users with the columns user, item and perhaps timestamp."
        ),
    ] = None,
    out: options.TableFile = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
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
        bool, typer.Option("--reasons", help="With --users, say beside each item what of the data speaks for it.")
    ] = False,
    all_texts: options.AllTexts = False,
    path: options.MovedPath = None,
    device: options.Device = "auto",
    json_output: options.Json = False,
) -> None:
    """Recommend for a user of the data set, for a history you type, or for many users into a file.

    The file has the columns user, place, item, title, score and, where there are any, thought and reason.

    Examples: `thinkrank recommend runs/demo --user 42`,
    `thinkrank recommend runs/demo -H "Toy Story" -H "Aladdin (1992)" -k 5`,
    `thinkrank recommend runs/demo --users all --out recs.parquet`
    """
    from thinkrank.errors import ThinkrankError

    if (user is not None) + bool(history) + (users is not None) != 1:
        raise ThinkrankError("give either --user ID or --history TITLE (repeatable), or --users all, or --users FILE")
    if users is None and (out is not None or reasons):
        raise ThinkrankError("--out and --reasons are for many users: give --users all, or --users and a file")
    if users is not None and json_output:
        raise ThinkrankError("--json is for one user: name a file that ends in .jsonl, as --out recs.jsonl")
    out, leave_out = tables.check_table_file(out), None if seen is None else not seen
    if users is not None:
        from thinkrank.recipes.answering import recommend_many
        from thinkrank.training.progress import console_progress

        table = recommend_many(
            run, users, k=k, think=think, temperature=temperature, filter_seen=leave_out, reasons=reasons,
            every_text=all_texts, path=path, device=device, progress=console_progress,
        )  # fmt: skip
        tables.write_table(table, out)
        return
    from thinkrank.recipes.answering import recommend as ask
    from thinkrank.training.progress import console_progress

    answer = ask(
        run,
        user=user,
        titles=history or (),
        k=k,
        think=think,
        temperature=temperature,
        filter_seen=leave_out,
        path=path,
        device=device,
        begin=None if json_output else tables.print_history,
        progress=console_progress,
    )
    if json_output:
        tables.print_json(tables.recommended_json(answer, every_text=all_texts), indent=2, ensure_ascii=False)
    else:
        tables.print_recommended(answer, every_text=all_texts)
