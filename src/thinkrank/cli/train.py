"""`thinkrank train`: one command per stage."""

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thinkrank.cli import options, tables
from thinkrank.cli.training import show_plan, trained
from thinkrank.errors import ThinkrankError
from thinkrank.training.progress import console_progress

if TYPE_CHECKING:
    from thinkrank.recipes.base import Recipe

app = typer.Typer(no_args_is_help=True, help="Train a stage of the cascade.")


def _a_preset(name: str) -> str:
    """Refuse what is no preset, before anything is imported that takes time."""
    from thinkrank.recipes.presets import Preset

    options.one_of("--preset", *Preset)(name)
    return name


@app.command()
def retrieve(
    source: options.Source = None,
    out: options.Out = Path("runs/retrieve"),
    path: options.DataPath = None,
    option: options.SourceOption = None,
    split: options.Split = None,
    preset: Annotated[
        str,
        typer.Option(help="Where the settings start from: thinkrank, thoughts, paper or released.", callback=_a_preset),
    ] = "thinkrank",
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="Train without thoughts no longer than this. [default: what the data's size needs]"),
    ] = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    filters: options.Filter = None,
    on_bad: options.OnBad = None,
    repeats: options.Repeats = None,
    device: options.Device = "auto",
    dry_run: options.DryRun = False,
    ranks: options.Ranks = 1,
    json_output: options.Json = False,
) -> None:
    """Train R²ec, which reads item texts, and combine it with models that count and one that compares texts.

    How long it trains, and in what steps, comes from the data's size; --minutes ends it earlier, by the clock. With
    `--preset thoughts` it learns to think: first from thoughts that rules write, then by RecPO.

    Ends with report.html in the run's folder: curves, and with RecPO the thoughts before and after it.

    Ctrl-C or a power cut loses nothing: the same command goes on from the last checkpoint, and without --minutes to the
    same weights.

    Examples: `thinkrank train retrieve movielens-100k --minutes 10 --out runs/ml`,
    `thinkrank train retrieve table --path shop/ --set model.prompt.noun=wine --out runs/shop`

    A retriever of your own: `thinkrank train retrieve --set retriever.class=my.module:MyRetriever --out runs/mine`
    """
    from thinkrank.recipes.presets import Preset

    with console_progress("starting", 0):
        from thinkrank.recipes.retrieval import RECIPE, retrieve_settings

    if minutes is not None:
        assignments = [*(assignments or ()), f"training.max_minutes={minutes}"]
    given = options.layers(
        source, path, option, config, assignments, filters=filters, split=split, on_bad=on_bad, repeats=repeats
    )
    settings = retrieve_settings(Preset(preset), given)
    if minutes is not None and (settings.recpo.steps or settings.retriever or not settings.training.steps):
        raise ThinkrankError(
            "--minutes bounds R²ec's training without thoughts, and this run has another: "
            "set training.max_minutes and recpo.max_minutes by --set"
        )
    _train(RECIPE, settings, out, device, dry_run=dry_run, ranks=ranks, json_output=json_output)


@app.command()
def rank(
    source: options.Source = None,
    out: options.Out = Path("runs/rank"),
    path: options.DataPath = None,
    candidates: options.CandidateFile = None,
    option: options.SourceOption = None,
    split: options.Split = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    filters: options.Filter = None,
    on_bad: options.OnBad = None,
    repeats: options.Repeats = None,
    device: options.Device = "auto",
    dry_run: options.DryRun = False,
    ranks: options.Ranks = 1,
    json_output: options.Json = False,
) -> None:
    """Train R2Rank: example thoughts by a teacher, a supervised phase on them, then the reward of lists.

    Ctrl-C or a power cut loses nothing: the same command goes on from the last example thought or checkpoint.

    Examples: `thinkrank train rank movielens-100k --out runs/rank --set reinforce.steps=80`,
    `thinkrank train rank --set model.thinks=false --out runs/plain`

    A ranker of your own: `thinkrank train rank --set ranker.class=my.module:MyRanker --out runs/mine`
    """
    with console_progress("starting", 0):
        from thinkrank.recipes.ranking import RECIPE, rank_settings

    given = options.layers(
        source, path, option, config, assignments, filters=filters, split=split, on_bad=on_bad, repeats=repeats
    )
    if candidates is not None:
        given = replace(given, tables=[*given.tables, {"candidates": {"file": str(candidates)}}])
    _train(RECIPE, rank_settings(given), out, device, dry_run=dry_run, ranks=ranks, json_output=json_output)


@app.command()
def rerank(
    source: Annotated[
        str | None, typer.Argument(help="trivago, mind, kuairand, ebnerd, table or synthetic. [default: synthetic]")
    ] = None,
    out: options.Out = Path("runs/rerank"),
    path: options.ListPath = None,
    option: options.SourceOption = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    on_bad: options.OnBad = None,
    device: options.Device = "auto",
    dry_run: options.DryRun = False,
    ranks: options.Ranks = 1,
    json_output: options.Json = False,
) -> None:
    """Train EGLR on displayed lists: the evaluator, the generator's warm start, then reinforcement with thinking.

    Ctrl-C or a power cut loses nothing: the same command goes on from the last checkpoint, to the same weights.

    Examples: `thinkrank train rerank synthetic --out runs/rerank`,
    `thinkrank train rerank trivago --path trivago/ --set model.reasoning.max_steps=3`

    A re-ranker of your own: `thinkrank train rerank --set reranker.class=my.module:MyReranker --out runs/mine`
    """
    with console_progress("starting", 0):
        from thinkrank.recipes.reranking import RECIPE, rerank_settings

    given = options.layers(source, path, option, config, assignments, on_bad=on_bad)
    _train(RECIPE, rerank_settings(given), out, device, dry_run=dry_run, ranks=ranks, json_output=json_output)


@app.command()
def cascade(
    source: options.Source = None,
    out: options.Out = Path("runs/cascade"),
    path: options.DataPath = None,
    option: options.SourceOption = None,
    split: options.Split = None,
    preset: Annotated[
        str,
        typer.Option(
            help="Where the retriever's settings start from: thinkrank, thoughts, paper or released.",
            callback=_a_preset,
        ),
    ] = "thinkrank",
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="Train R²ec no longer than this. [default: what the data's size needs]"),
    ] = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    filters: options.Filter = None,
    on_bad: options.OnBad = None,
    repeats: options.Repeats = None,
    device: options.Device = "auto",
    dry_run: options.DryRun = False,
    ranks: options.Ranks = 1,
    json_output: options.Json = False,
) -> None:
    """Train a retriever as `train retrieve` does, then a ranker that weighs evidence on what it finds.

    Later stages learn on validation samples, from lists that were made without the users they are of; a stage that adds
    nothing there is not asked. What each added and what it takes is in the model's config.json.

    Ctrl-C or a power cut loses nothing: the same command goes on from the last checkpoint.

    Examples: `thinkrank train cascade movielens-100k --minutes 10 --out runs/cascade`,
    `thinkrank train cascade movielens-100k --set stages.rerank=runs/rerank`

    Stages of your own: `thinkrank train cascade --set retriever.class=my.module:MyRetriever --set
    stages.ranker.class=my.module:MyRanker`
    """
    from thinkrank.recipes.presets import Preset

    with console_progress("starting", 0):
        from thinkrank.recipes.cascade import RECIPE, cascade_settings

    if minutes is not None:
        assignments = [*(assignments or ()), f"training.max_minutes={minutes}"]
    given = options.layers(
        source, path, option, config, assignments, filters=filters, split=split, on_bad=on_bad, repeats=repeats
    )
    _train(
        RECIPE,
        cascade_settings(Preset(preset), given),
        out,
        device,
        dry_run=dry_run,
        ranks=ranks,
        json_output=json_output,
    )


def _train(
    recipe: "Recipe", settings: Any, out: Path, device: str, *, dry_run: bool, ranks: int, json_output: bool
) -> None:
    """Train, write the report unless a finished run has one, and say how good it is and where things are.

    Of several processes the first one does all but the training.
    """
    from thinkrank.distributed.joining import joined
    from thinkrank.pretrained import MODEL
    from thinkrank.recipes.base import is_trained, validations_of
    from thinkrank.recipes.evaluation import report_training

    report = out / "report.html"
    is_reported = is_trained(out) and report.is_file()
    with joined(device) as world:
        if not world.is_first:
            logging.getLogger("thinkrank").setLevel(logging.CRITICAL)  # the first one says it
            if not dry_run:
                split = world.ahead(lambda: settings.data.load_split())
                trained(recipe, settings, out, split, device=device, world=world)
            return
        if dry_run:
            with console_progress("reading the data", 0):
                split = settings.data.load_split()
            show_plan(recipe, settings, split, device=device, ranks=ranks, json_output=json_output)
            return
        with console_progress("reading the data", 0):
            split = world.ahead(lambda: _read(settings, out))
        opened = trained(recipe, settings, out, split, device=device, world=world)
    if not is_reported:
        report_training(opened, progress=console_progress)
    validations = validations_of(opened)
    if json_output:
        files = {"run": str(out), "model": str(out / MODEL), "report": str(report)}
        tables.print_json({**files, **{validation.key: validation.value for validation in validations}})
        return
    labels = dict.fromkeys(validation.label for validation in validations)
    for label in labels:
        found = [f"{one.value:.4f} {one.how}".strip() for one in validations if one.label == label]
        sys.stdout.write(f"{label}: {', '.join(found)}\n")
    sys.stdout.write(f"the model is in {out / MODEL}\nreport: {report}\n")


def _read(settings: Any, out: Path) -> Any:
    """Read the data; dropped rows are written into a folder that nobody else trains in and that holds no run yet."""
    from thinkrank._lock import locked
    from thinkrank.training.run import is_begun

    with locked(out):
        return settings.data.load_split(None if is_begun(out) else out)
