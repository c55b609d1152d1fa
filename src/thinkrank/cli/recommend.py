"""`thinkrank recommend`: ask a trained model."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thinkrank.cli.train import Device

if TYPE_CHECKING:
    from thinkrank.data import Catalogue, History
    from thinkrank.stages.answers import Ranking


def recommend(
    run: Annotated[Path, typer.Argument(help="Folder of a training run, or of a saved model.")] = Path("runs/demo"),
    user: Annotated[str | None, typer.Option("--user", "-u", help="A user id of the run's data set.")] = None,
    history: Annotated[
        list[str] | None,
        typer.Option("--history", "-H", help="A title or item id, oldest first. Repeat it for each item."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
    think: Annotated[bool, typer.Option(help="Let the model write a thought and answer from it.")] = True,
    seen: Annotated[bool, typer.Option("--seen", help="Recommend items of the history again, too.")] = False,
    temperature: Annotated[float | None, typer.Option(min=0, help="Of the thought; 0 is greedy.")] = None,
    device: Device = "auto",
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Recommend for a user of the data set, or for a history you type.

    Examples: `thinkrank recommend runs/demo --user 42`,
    `thinkrank recommend runs/demo -H "Toy Story" -H "Aladdin (1992)" -k 5`
    """
    from thinkrank.errors import ThinkrankError

    if (user is None) == (not history):
        raise ThinkrankError("give either --user ID or --history TITLE (repeat --history for each item)")
    from thinkrank.data import Catalogue, History

    folder = run / "model" if (run / "model" / "config.json").is_file() else run
    if not (folder / "config.json").is_file():
        raise ThinkrankError(f"{run}: no trained model here; run `thinkrank demo` or `thinkrank train retrieve` first")
    catalogue = Catalogue.load(folder / "catalogue.parquet")
    past = (
        _history_of(run, user) if user is not None else History.of([catalogue.find(title) for title in history or []])
    )

    from thinkrank.retrieve import R2ec

    model = R2ec.from_pretrained(folder, device=device)
    options = model.config.thought
    if temperature is not None:
        options = options.model_copy(update={"temperature": temperature})
    ranking = model.retrieve([past], k, filter_seen=not seen, think=think, thought_options=options)
    if json_output:
        sys.stdout.write(json.dumps(_as_json(ranking, past, catalogue), indent=2, ensure_ascii=False) + "\n")
    else:
        _print(ranking, past, catalogue, model.config.prompt.history_window)


def _history_of(run: Path, user: str) -> "History":
    from thinkrank.recipes.settings import RetrieveSettings

    return RetrieveSettings.from_run(run).data.load().history(user)


def _as_json(ranking: "Ranking", past: "History", catalogue: "Catalogue") -> dict[str, Any]:
    thought = ranking.thoughts[0] if ranking.thoughts else None
    return {
        "history": [catalogue.ids[row] for row in past.items],
        "thought": None
        if thought is None
        else {"text": thought.text, "finish_reason": thought.finish_reason, "tokens": len(thought.token_ids)},
        "items": [
            {"item": catalogue.ids[row], "title": catalogue.titles[row], "score": round(float(score), 4)}
            for row, score in zip(ranking.items_BK[0], ranking.scores_BK[0], strict=True)
            if row >= 0
        ],
    }


def _print(ranking: "Ranking", past: "History", catalogue: "Catalogue", window: int) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.panel import Panel
    from rich.table import Table

    console = Console()
    shown = past.last(window)
    titles = "; ".join(escape(catalogue.titles[row]) for row in shown.items)
    console.print(f"[bold]History[/bold] (the newest {len(shown)} of {len(past)}): {titles or 'empty'}")
    if ranking.thoughts:
        thought = ranking.thoughts[0]
        console.print(Panel(escape(thought.text) or "(it wrote nothing)", title="thought", title_align="left"))
    table = Table("", "title", "score", box=None, padding=(0, 2, 0, 0))
    table.columns[2].justify = "right"
    for place, (row, score) in enumerate(zip(ranking.items_BK[0], ranking.scores_BK[0], strict=True), start=1):
        if row >= 0:
            table.add_row(str(place), escape(catalogue.titles[row]), f"{score:.2f}")
    console.print(table)
