"""`thinkrank evaluate`: what a run has trained beside its baselines, on the same samples."""

import sys
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from thinkrank._files import check_writable
from thinkrank.cli import options, tables
from thinkrank.errors import ThinkrankError


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.", callback=options.a_run)],
    part: Annotated[
        str,
        typer.Option(
            help="Which held-out samples to judge on: valid or test.",
            callback=options.one_of("--part", "valid", "test"),
        ),
    ] = "test",
    samples: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Samples, drawn by the seed. [default: all, or 1000 where it thinks or reads a prompt for each]",
        ),
    ] = None,
    think: Annotated[bool, typer.Option(help="Also measure answers that think first (slow on a CPU).")] = False,
    thoughts: Annotated[int, typer.Option(min=1, help="Thoughts of which an answer that thinks takes the mean.")] = 1,
    controls: Annotated[
        bool,
        typer.Option("--controls", help="Also measure empty words, and thoughts about others, in the thought's place."),
    ] = False,
    untrained: Annotated[bool, typer.Option(help="Also measure the model before training.")] = False,
    sasrec: Annotated[
        bool, typer.Option("--sasrec", help="Also train SASRec, by the run's seed, and measure it (minutes on a CPU).")
    ] = False,
    parts: Annotated[
        bool, typer.Option("--parts", help="Also measure what a combined retriever loses without each part.")
    ] = False,
    seen: Annotated[bool, typer.Option("--seen", help="Leave items of the history in the ranking.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the drawn samples.")] = 0,
    candidates: options.CandidateFile = None,
    path: options.MovedPath = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", callback=options.from_home, help="Folder for results and report. [default: the run's folder]"
        ),
    ] = None,
    device: options.Device = "auto",
    json_output: options.Json = False,
) -> None:
    """Judge a run on held-out samples, beside baselines, and write the report.

    A retriever ranks the whole catalogue and a ranker its run's candidate sets, beside popularity and item-kNN; a
    re-ranker answers displayed lists, greedily and with the evaluator's best of several, beside the order displayed.
    Writes results.json, comparisons.json (with the protocol), per_sample.safetensors, report.html and, where there are
    texts to check, faithfulness.json into the run's folder.

    Example: `thinkrank evaluate runs/demo --samples 2000 --think`
    """
    from thinkrank.recipes.kinds import stage_of
    from thinkrank.training import console_progress

    if candidates is not None and stage_of(run) != "rank":
        raise ThinkrankError(f"--candidates are lists that a ranker sorts, and {run} is no ranker's run")
    check_writable(out or run, otherwise="name another folder for results and report with --out")
    with console_progress("loading the run", 0):
        from thinkrank.recipes.base import THINKING_SAMPLES, EvaluationOptions, open_run
        from thinkrank.recipes.evaluation import evaluate as judge

        opened = open_run(run, path=path, device=device)
    compared = EvaluationOptions(
        part=cast(Literal["valid", "test"], part),
        samples=samples or (THINKING_SAMPLES if think else opened.recipe.samples(opened.settings)),
        think=think,
        thoughts=thoughts,
        controls=controls,
        untrained=untrained,
        sasrec=sasrec,
        parts=parts,
        seen=seen,
        candidates=None if candidates is None else str(candidates),
        seed=seed,
    )
    judged = judge(opened, compared, out=out, progress=console_progress)
    if json_output:
        tables.print_json([row.model_dump(mode="json") for row in judged.rows], indent=1)
        return
    tables.print_results(out or run, split=part)
    sys.stdout.write(f"{judged.verdict}\n" if judged.verdict else "")
    sys.stdout.write("; ".join(f"{key}: {value}" for key, value in judged.evaluation.policy.items()) + "\n")
