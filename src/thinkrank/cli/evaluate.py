"""`thinkrank evaluate`: what a run has trained beside its baselines, on the same samples."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinkrank.cli.train import Device

if TYPE_CHECKING:
    from thinkrank.data import Samples, Split
    from thinkrank.evaluate import Evaluation, Scorer
    from thinkrank.retrieve import R2ec, SasrecOptions
    from thinkrank.training import Run

REFERENCE = "item-kNN"
SASREC = "SASRec"
TRAINED = "R²ec, no thought"
THINKING = "R²ec, thought first"
UNTRAINED = "R²ec, untrained"
LISTS = "lists"
"""Folder of a list writer inside the run of a retriever, as in the demo."""
SHOWN_METRICS = ("hit@10", "ndcg@10", "mrr", "coverage@10")


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    part: Annotated[str, typer.Option(help="valid or test.")] = "test",
    samples: Annotated[int, typer.Option(min=1, help="Samples, drawn by the seed; all if there are fewer.")] = 1000,
    think: Annotated[bool, typer.Option(help="Also measure answers that think first (slow on a CPU).")] = False,
    untrained: Annotated[bool, typer.Option(help="Also measure the model before training.")] = False,
    sasrec: Annotated[
        bool, typer.Option("--sasrec", help="Also train SASRec, by the run's seed, and measure it (minutes on a CPU).")
    ] = False,
    seen: Annotated[bool, typer.Option("--seen", help="Leave items of the history in the ranking.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the drawn samples and the bootstrap.")] = 0,
    device: Device = "auto",
    json_output: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Judge a run on held-out samples, beside baselines, and write the report.

    A retriever ranks the whole catalogue and a ranker its run's candidate sets, beside popularity and item-kNN; a list
    writer answers displayed lists, greedily and with the evaluator's best of several, beside the order displayed.
    Writes results.json, comparisons.json and report.html into the run's folder.

    Example: `thinkrank evaluate runs/demo --samples 2000 --think`
    """
    from thinkrank.errors import ThinkrankError
    from thinkrank.recipes.settings import RetrieveSettings, run_config
    from thinkrank.retrieve import R2ec, SasrecOptions
    from thinkrank.training import Run

    if part not in ("valid", "test"):
        raise ThinkrankError(f"--part must be valid or test, not {part!r}")
    config = run_config(run)
    stage = "rank" if "cold_start" in config else "rerank" if "evaluator" in config else "retrieve"
    if not (run / "model" / "config.json").is_file():
        raise ThinkrankError(
            f"{run}: its training has not finished; start `thinkrank train {stage}` again to resume it"
        )
    if stage != "retrieve" and (think or untrained or seen):
        raise ThinkrankError(
            "--think, --untrained and --seen belong to retrievers; rankers and list writers think as their run says"
        )
    if stage == "rerank":
        from thinkrank.cli.evaluate_rerank import evaluate_reranker

        if sasrec:
            raise ThinkrankError("--sasrec predicts the next item of a history and cannot order displayed lists")
        evaluate_reranker(run, part, samples, seed=seed, device=device, json_output=json_output)
        return
    if stage == "rank":
        from thinkrank.cli.evaluate_rank import evaluate_ranker

        evaluate_ranker(run, part, samples, seed=seed, sasrec=sasrec, device=device, json_output=json_output)
        return
    settings = RetrieveSettings.from_run(run)
    split = settings.data.load_split()
    opened = Run.open(run, split.manifest())
    model = R2ec.from_pretrained(run / "model", device=device)
    drawn = (split.test if part == "test" else split.valid).subset(samples, seed)
    options = SasrecOptions(seed=opened.manifest["seed"]) if sasrec else None
    systems = retrieval_systems(model, split, think=think, untrained=untrained, sasrec=options)
    write_evaluation(opened, model, split, drawn, systems, part=part, filter_seen=not seen, json_output=json_output)


def retrieval_systems(
    model: "R2ec", split: "Split", *, think: bool, untrained: bool, sasrec: "SasrecOptions | None" = None
) -> "Mapping[str, Scorer]":
    """Everything a table compares, fitted on the train part; SASRec, if asked for, stops early on the valid part."""
    from thinkrank.retrieve import ItemKNN, Popularity, R2ec, SASRec
    from thinkrank.training import console_progress

    systems: dict[str, Scorer] = {
        "popularity": Popularity().fit(split).scores,
        REFERENCE: ItemKNN().fit(split).scores,
    }
    if sasrec is not None:
        trained = SASRec(sasrec, device=str(model.backbone.device)).fit(split, progress=console_progress)
        systems[SASREC] = trained.scores
    if untrained:
        systems[UNTRAINED] = R2ec.create(model.config, model.catalogue).scores
    systems[TRAINED] = model.scores
    if think:
        systems[THINKING] = partial(model.scores, think=True)
    return systems


def write_evaluation(
    run: "Run",
    model: "R2ec",
    split: "Split",
    samples: "Samples",
    systems: "Mapping[str, Scorer]",
    *,
    part: str,
    filter_seen: bool = True,
    json_output: bool = False,
) -> "Evaluation":
    """Evaluate, print the table, and write results.json, comparisons.json and report.html into the run's folder.

    The report also tells of a list writer that was trained inside of the run.
    """
    import json
    from dataclasses import replace

    from thinkrank.cli.rerank import open_reranker
    from thinkrank.evaluate import evaluate_retrieval, write_comparisons, write_results
    from thinkrank.recipes.reporting import list_writing, retrieval_report
    from thinkrank.recipes.settings import run_config
    from thinkrank.report import write_report
    from thinkrank.training import console_progress

    inside = run.folder / LISTS
    has_lists = (inside / "model" / "config.json").is_file() and "evaluator" in run_config(inside)
    lists = open_reranker(inside, device=str(model.backbone.device)) if has_lists else None
    with console_progress("evaluating", len(samples) * len(systems)) as advance:
        evaluation = evaluate_retrieval(
            systems,
            samples,
            filter_seen=filter_seen,
            batch_size=64,
            progress=_Advance(advance),
        )
    counts_I = split.train_counts
    seeds = dict.fromkeys((TRAINED, THINKING, SASREC), (run.manifest["seed"],))
    rows = evaluation.rows(dataset=split.dataset.name, split=part, seeds=seeds, counts_I=counts_I)
    comparisons = [
        comparison
        for reference in ("popularity", REFERENCE)
        for comparison in evaluation.comparisons(reference, dataset=split.dataset.name, split=part)
    ]
    against_knn = [comparison for comparison in comparisons if comparison.reference == REFERENCE]
    report = retrieval_report(run, model, split, samples, evaluation, rows, against_knn)
    if lists is not None:
        report = replace(report, writing=list_writing(*lists))
    write_report(run.folder / "report.html", report)
    write_comparisons(run.folder / "comparisons.json", comparisons)
    write_results(run.folder / "results.json", rows)
    if json_output:
        sys.stdout.write(json.dumps([row.model_dump(mode="json") for row in rows], indent=1) + "\n")
    else:
        print_results(run.folder)
        sys.stdout.write("; ".join(f"{key}: {value}" for key, value in evaluation.policy.items()) + "\n")
    return evaluation


def print_results(folder: Path, *, split: str | None = None) -> None:
    """Show the table of a run's results.json, of one split only if it is named, and where the report is."""
    from rich.console import Console

    from thinkrank.evaluate import read_results, results_table

    rows = read_results(folder / "results.json")
    Console().print(results_table([row for row in rows if row.metric in SHOWN_METRICS and split in (None, row.split)]))
    sys.stdout.write(f"report: {folder / 'report.html'}\n")


class _Advance:
    """Turn `progress(system, done, total)` into steps of one bar."""

    def __init__(self, advance: Callable[..., None]) -> None:
        self.advance, self.system, self.done = advance, "", 0

    def __call__(self, system: str, done: int, total: int) -> None:
        if system != self.system:
            self.system, self.done = system, 0
        self.advance(done - self.done, note=system)
        self.done = done
