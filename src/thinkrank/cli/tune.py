"""`thinkrank tune`: settings by search on the validation part, within minutes."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from thinkrank.cli import options, tables
from thinkrank.errors import ThinkrankError
from thinkrank.training.progress import console_progress


def tune(
    source: options.Source = None,
    out: Annotated[
        Path, typer.Option("--out", callback=options.from_home, help="Folder of the search; one there goes on.")
    ] = Path("runs/tune"),
    minutes: Annotated[float, typer.Option(min=0.1, help="Minutes for all trials together.")] = 60.0,
    trials: Annotated[int, typer.Option(min=2, help="Most trials; each has an equal share of the minutes.")] = 12,
    stage: Annotated[
        str,
        typer.Option(
            help="What is trained: retrieve, rank or rerank.",
            callback=options.one_of("--stage", "retrieve", "rank", "rerank"),
        ),
    ] = "retrieve",
    path: options.DataPath = None,
    option: options.SourceOption = None,
    split: options.Split = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    filters: options.Filter = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the search.")] = 0,
    device: options.Device = "auto",
    json_output: options.Json = False,
) -> None:
    """Search learning rates, sizes and the like on the validation part, and write the best as settings.

    Every trial is a line of trials.jsonl in the folder, the first with the defaults. The same command goes on after an
    interruption. Ends with best.toml, which `thinkrank train STAGE --config` takes. What --set gives is not searched.

    Needs Optuna: `pip install 'thinkrank[tune]'`.

    Example: `thinkrank tune movielens-100k --minutes 90 --out runs/tune`
    """
    import importlib.util

    if importlib.util.find_spec("optuna") is None:
        raise ThinkrankError("the search needs Optuna: run `pip install 'thinkrank[tune]'`")
    with console_progress("starting", 0):
        from thinkrank.recipes.presets import Preset
        from thinkrank.recipes.ranking import rank_settings
        from thinkrank.recipes.reranking import rerank_settings
        from thinkrank.recipes.retrieval import retrieve_settings
        from thinkrank.recipes.tuning import BEST, TRIALS
        from thinkrank.recipes.tuning import tune as search

    given = options.layers(source, path, option, config, assignments, filters=filters, split=split)
    make = {
        "retrieve": lambda layers: retrieve_settings(Preset.thinkrank, layers),
        "rank": rank_settings,
        "rerank": rerank_settings,
    }[stage]
    try:
        found = search(
            stage,
            make,
            given,
            out,
            minutes=minutes,
            trials=trials,
            seed=seed,
            device=device,
            progress=console_progress,
        )
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on with the trial that was under way\n")
        raise
    if json_output:
        tables.print_json([vars(trial) for trial in found], indent=1)
        return
    for trial in found:
        tried = ", ".join(f"{name} {value}" for name, value in trial.settings.items()) or "the defaults"
        told = f"{trial.metric}: {trial.fault}" if trial.fault else f"{trial.metric} {trial.value:.4f}"
        sys.stdout.write(f"{told}: {tried} ({trial.seconds:.0f} s)\n")
    sys.stdout.write(
        f"everything that was tried: {out / TRIALS}; chosen on validation, so judge it on test: "
        f"thinkrank train {stage} --config {out / BEST} --out runs/tuned\n"
    )
