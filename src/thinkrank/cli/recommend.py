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
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
    think: Annotated[
        bool | None,
        typer.Option(help="Let the model write a thought and answer from it. [default: if it reads prompts]"),
    ] = None,
    seen: Annotated[bool, typer.Option("--seen", help="Recommend items of the history again, too.")] = False,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Temperature of the thought; 0 is greedy. [default: the model's]")
    ] = None,
    all_texts: options.AllTexts = False,
    device: options.Device = "auto",
    json_output: options.Json = False,
) -> None:
    """Recommend for a user of the data set, or for a history you type.

    Examples: `thinkrank recommend runs/demo --user 42`,
    `thinkrank recommend runs/demo -H "Toy Story" -H "Aladdin (1992)" -k 5`
    """
    from thinkrank.errors import ThinkrankError

    if (user is None) == (not history):
        raise ThinkrankError("give either --user ID or --history TITLE (repeat --history for each item)")
    from thinkrank.recipes.answering import recommend as ask

    answer = ask(
        run,
        user=user,
        titles=history or (),
        k=k,
        think=think,
        temperature=temperature,
        filter_seen=not seen,
        device=device,
    )
    if json_output:
        tables.print_json(tables.recommended_json(answer, every_text=all_texts), indent=2, ensure_ascii=False)
    else:
        tables.print_recommended(answer, every_text=all_texts)
