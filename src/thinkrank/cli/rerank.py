"""`thinkrank train rerank` and `thinkrank rerank`: EGLR from its evaluator to slates in a file."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinkrank.cli.data import Json, Option
from thinkrank.cli.train import Device, given, kept_value

if TYPE_CHECKING:
    import polars as pl

    from thinkrank.data import ImpressionDataset, ImpressionSplit
    from thinkrank.recipes.settings import RerankSettings
    from thinkrank.rerank import EGLR
    from thinkrank.stages.answers import Slate
    from thinkrank.training import Run

PHASES = ("evaluator", "warm_start", "grpo")

ListPath = Annotated[str | None, typer.Option("--path", help="Folder or zip archive of the source's files.")]


def train(
    source: Annotated[
        str | None, typer.Argument(help="trivago, mind, kuairand, ebnerd, table or synthetic. [default: synthetic]")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; an interrupted run there goes on.")] = Path(
        "runs/rerank"
    ),
    path: ListPath = None,
    option: Option = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file laid over the defaults.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, such as model.reasoning.max_steps=3. Repeatable.")
    ] = None,
    device: Device = "auto",
    json_output: Json = False,
) -> None:
    """Train EGLR on displayed lists: the evaluator, the generator's warm start, then reinforcement with thinking.

    Ctrl-C or a power cut loses nothing: the same command goes on from the last checkpoint, to the same weights.

    Examples: `thinkrank train rerank synthetic --out runs/rerank`,
    `thinkrank train rerank trivago --path trivago/ --set model.reasoning.max_steps=3`
    """
    from thinkrank.recipes.reporting import write_reranking_report
    from thinkrank.recipes.settings import rerank_settings

    settings = rerank_settings(given(source, path, option, None, config, assignments, split=None))
    split = settings.data.load_split()
    report, is_reused = out / "report.html", (out / "model" / "config.json").is_file()
    run, model = train_reranker(settings, split, out, device=device)
    if not (is_reused and report.is_file()):
        write_reranking_report(run, model, split)
    rows = phase(run, "grpo", settings, split).metrics()
    key = f"valid_ndcg@{settings.grpo.length}"
    keep = settings.grpo.keep
    value = kept_value(rows, key, keep)
    if json_output:
        told = {"run": str(out), "model": str(out / "model"), "report": str(report), key: value}
        sys.stdout.write(json.dumps(told) + "\n")
        return
    said = f"{keep} validation NDCG@{settings.grpo.length} {value:.4f}"
    sys.stdout.write(f"{said}; the model is in {out / 'model'}\nreport: {report}\n")


def train_reranker(
    settings: "RerankSettings", split: "ImpressionSplit", folder: Path, *, device: str = "auto"
) -> "tuple[Run, EGLR]":
    """Train, or resume, or only load what a finished run left in the folder; each phase has a folder of its own."""
    from thinkrank.rerank import EGLR
    from thinkrank.training import Run, console_progress

    run = Run(folder, settings.model_dump(mode="json"), {"split": split.manifest(), "device": device})
    if (folder / "model" / "config.json").is_file():
        sys.stderr.write(f"{folder} holds the finished training of these settings: reusing it\n")
        return run, EGLR.from_pretrained(folder / "model", device=device)
    model = EGLR.create(settings.model, split.train, seed=settings.warm_start.seed, device=device)
    try:
        for name in PHASES:
            options = getattr(settings, name)
            if options.steps:
                model.fit(split, options, phase(run, name, settings, split), progress=console_progress)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on from the last checkpoint\n")
        raise
    model.save_pretrained(folder / "model")
    return run, model


def open_reranker(folder: Path, *, device: str = "auto") -> "tuple[Run, EGLR, ImpressionSplit]":
    """What a finished training left in a folder.

    Raises:
        ThinkrankError: if its training has not finished.
    """
    from thinkrank.recipes.settings import RerankSettings
    from thinkrank.rerank import EGLR
    from thinkrank.training import Run

    split = RerankSettings.from_run(folder).data.load_split()
    return Run.open(folder, split.manifest()), EGLR.from_pretrained(folder / "model", device=device), split


def phase(run: "Run", name: str, settings: "RerankSettings", split: "ImpressionSplit") -> "Run":
    """The run of one phase, inside the whole."""
    from thinkrank.training import Run

    options = getattr(settings, name).model_dump(mode="json")
    return Run(run.folder / name.replace("_", "-"), options, {"split": split.manifest()})


def rerank(
    run: Annotated[Path, typer.Argument(help="Folder of a re-ranking run.")],
    source: Annotated[str, typer.Argument(help="Format of the lists: table, trivago, mind, kuairand, ebnerd.")],
    path: Annotated[Path, typer.Argument(help="Folder or zip archive of the lists.")],
    out: Annotated[Path | None, typer.Option("--out", help="CSV or Parquet file; the screen by default.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Places of the final list.")] = 10,
    samples: Annotated[
        int, typer.Option(min=1, help="Lists written for each request; the evaluator picks the best.")
    ] = 1,
    option: Option = None,
    device: Device = "auto",
) -> None:
    """Write the final list for each displayed one.

    The answer has the columns list, user, place, item, title, shown_at, score (log-probability of the choice),
    entropy_before and entropy_after (nats) and thoughts.

    Example: `thinkrank rerank runs/rerank table shop/ --out slates.csv`
    """
    from thinkrank.cli.rank import write_table
    from thinkrank.data import load_impressions
    from thinkrank.errors import ThinkrankError
    from thinkrank.recipes.settings import parse_assignment, run_config
    from thinkrank.rerank import EGLR

    if not (run / "model" / "config.json").is_file():
        raise ThinkrankError(f"{run}: no trained re-ranker here; run `thinkrank train rerank` first")
    model = EGLR.from_pretrained(run / "model", device=device)
    lists = load_impressions(source, path, **dict(map(parse_assignment, option or ())))
    grpo = run_config(run)["grpo"]  # the evaluator judges what it rewarded in training
    slate = model.rerank(lists, k, samples=samples, reward=grpo["reward"], places=grpo["length"])
    table = slates(slate, lists)
    if out is None:
        sys.stdout.write(table.write_csv())
    else:
        write_table(table, out)
        sys.stderr.write(f"wrote {len(table)} rows to {out}\n")


def slates(slate: "Slate", lists: "ImpressionDataset") -> "pl.DataFrame":
    """One row per place of every list that has an item there."""
    import numpy as np
    import polars as pl

    rows, places = np.nonzero(slate.items_BK >= 0)
    items = slate.items_BK[rows, places]
    columns = {
        "list": rows,
        "user": [lists.users[user] for user in lists.users_L[rows]],
        "place": places + 1,
        "item": [lists.catalogue.ids[item] for item in items],
        "title": [lists.catalogue.titles[item] for item in items],
        "shown_at": slate.columns_BK[rows, places] + 1,
        "score": slate.scores_BK[rows, places],
    }
    for name in ("entropies_before", "entropies_after", "thoughts"):
        values = getattr(slate, f"{name}_BK")
        if values is not None:
            columns[name.replace("entropies", "entropy")] = values[rows, places]
    return pl.DataFrame(columns)
