"""`thinkrank train`: one command per stage."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thinkrank.cli import options, tables
from thinkrank.cli.training import trained

if TYPE_CHECKING:
    from thinkrank.recipes.base import Recipe

app = typer.Typer(no_args_is_help=True, help="Train a stage of the cascade.")


@app.command()
def retrieve(
    source: options.Source = None,
    out: options.Out = Path("runs/retrieve"),
    path: options.DataPath = None,
    option: options.SourceOption = None,
    split: options.Split = None,
    preset: Annotated[
        str, typer.Option(help="thinkrank, thoughts, paper or released: where the settings start from.")
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
    json_output: options.Json = False,
) -> None:
    """Train R²ec, which reads item texts, and fuse it with what the crowd did.

    How long it trains, and in what steps, comes from the data's size; --minutes ends it earlier, by the clock. With
    `--preset thoughts` it learns to think: first from thoughts that rules write, then by RecPO.

    Ends with report.html in the run's folder: curves, and with RecPO the thoughts before and after it.

    Ctrl-C or a power cut loses nothing: the same command goes on from the last checkpoint, and without --minutes to the
    same weights.

    Examples: `thinkrank train retrieve movielens-100k --minutes 10 --out runs/ml`,
    `thinkrank train retrieve table --path shop/ --set model.prompt.noun=wine --out runs/shop`

    A retriever of your own: `thinkrank train retrieve --set retriever.class=my.module:MyRetriever --out runs/mine`
    """
    from thinkrank.errors import ThinkrankError
    from thinkrank.recipes.presets import Preset
    from thinkrank.recipes.retrieval import RECIPE, retrieve_settings

    if preset not in list(Preset):
        raise ThinkrankError(f"unknown preset {preset!r}: there are {', '.join(Preset)}")
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
    _train(RECIPE, settings, out, device, json_output=json_output)


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
    json_output: options.Json = False,
) -> None:
    """Train R2Rank: traces by a teacher, a cold start on them, then the reward of lists.

    Ctrl-C or a power cut loses nothing: the same command goes on from the last trace or checkpoint.

    Examples: `thinkrank train rank movielens-100k --out runs/rank --set reinforce.steps=80`,
    `thinkrank train rank --set model.thinks=false --out runs/plain`

    A ranker of your own: `thinkrank train rank --set ranker.class=my.module:MyRanker --out runs/mine`
    """
    from thinkrank.recipes.ranking import RECIPE, rank_settings

    given = options.layers(
        source, path, option, config, assignments, filters=filters, split=split, on_bad=on_bad, repeats=repeats
    )
    if candidates is not None:
        given = replace(given, tables=[*given.tables, {"candidates": {"file": str(candidates)}}])
    _train(RECIPE, rank_settings(given), out, device, json_output=json_output)


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
    json_output: options.Json = False,
) -> None:
    """Train EGLR on displayed lists: the evaluator, the generator's warm start, then reinforcement with thinking.

    Ctrl-C or a power cut loses nothing: the same command goes on from the last checkpoint, to the same weights.

    Examples: `thinkrank train rerank synthetic --out runs/rerank`,
    `thinkrank train rerank trivago --path trivago/ --set model.reasoning.max_steps=3`

    A re-ranker of your own: `thinkrank train rerank --set reranker.class=my.module:MyReranker --out runs/mine`
    """
    from thinkrank.recipes.reranking import RECIPE, rerank_settings

    given = options.layers(source, path, option, config, assignments, on_bad=on_bad)
    _train(RECIPE, rerank_settings(given), out, device, json_output=json_output)


def _train(recipe: "Recipe", settings: Any, out: Path, device: str, *, json_output: bool) -> None:
    """Train, write the report unless a finished run has one, and say how good it is and where things are."""
    from thinkrank.recipes.base import MODEL, is_trained, validations_of
    from thinkrank.recipes.evaluation import report_training

    report = out / "report.html"
    is_reported = is_trained(out) and report.is_file()
    split = settings.data.load_split(out)
    opened = trained(recipe, settings, out, split, device=device)
    if not is_reported:
        report_training(opened)
    validations = validations_of(opened)
    if json_output:
        files = {"run": str(out), "model": str(out / MODEL), "report": str(report)}
        tables.print_json({**files, **{validation.key: validation.value for validation in validations}})
        return
    figures = ", ".join(f"{validation.label} {validation.value:.4f}" for validation in validations)
    sys.stdout.write(f"{f'{figures}; ' if figures else ''}the model is in {out / MODEL}\nreport: {report}\n")
