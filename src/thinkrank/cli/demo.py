"""`thinkrank demo`: from nothing to reasoned recommendations on real data."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from thinkrank.cli import tables
from thinkrank.cli.training import trained

LISTS = "lists"
"""Folder of the list writer inside the run."""

DEMO_STEPS = 120
DEMO_SETTINGS = (
    "model.thinker=base",
    "training.thought_share=0.0",
    "recpo.steps=0",
    f"training.steps={DEMO_STEPS}",
    "training.batch_size=4",
    "training.accumulate=2",
    "training.refresh_every=60",
    "training.validate_every=120",
    "training.keep=last",
    "training.validation_samples=100",
    "training.max_minutes=10.0",
)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; a finished run there is reused.")] = Path(
        "runs/demo"
    ),
    samples: Annotated[int, typer.Option(min=10, help="Test samples to evaluate.")] = 320,
) -> None:
    """Train R²ec on MovieLens-100K with SmolLM2-135M, evaluate it beside baselines, and write a report with thoughts.

    A small list writer that pauses to think is trained as well, in a made world, and is part of the report.

    Takes about twelve minutes on two CPU cores. Interrupt it whenever you like: the next call goes on from the
    last checkpoint, and a finished run is reused.
    """
    from thinkrank.recipes import reranking, retrieval
    from thinkrank.recipes.base import EvaluationOptions
    from thinkrank.recipes.evaluation import evaluate, report_training
    from thinkrank.recipes.layers import Layers
    from thinkrank.recipes.presets import Preset
    from thinkrank.training import console_progress

    started = time.perf_counter()
    given = Layers(source="movielens-100k", assignments=DEMO_SETTINGS)
    settings = retrieval.retrieve_settings(Preset.thinkrank, given)
    split = settings.data.load_split()
    _say(f"{split.dataset.name}: {len(split.train):,} training, {len(split.test):,} test samples, ")
    _say(f"{len(split.dataset.catalogue):,} movies\n")
    opened = trained(retrieval.RECIPE, settings, out, split)
    if (out / "report.html").exists() and _is_evaluated(out / "results.json", min(samples, len(split.test))):
        sys.stderr.write(f"{out / 'results.json'} is there already: reusing it\n")
        tables.print_results(out)
    else:
        sys.stderr.write("a list writer that pauses to think, in a made world\n")
        lists = reranking.rerank_settings(Layers(source="synthetic"))
        report_training(trained(reranking.RECIPE, lists, out / LISTS, lists.data.load_split()))
        judged = evaluate(opened, EvaluationOptions(samples=samples, think=True), progress=console_progress)
        tables.print_results(out)
        _say("; ".join(f"{key}: {value}" for key, value in judged.evaluation.policy.items()) + "\n")
    _say(f"{(time.perf_counter() - started) / 60:.1f} minutes. Now try:\n")
    _say(f'  thinkrank recommend {out} -H "Toy Story" -H "Aladdin" -H "The Lion King"\n')


def _is_evaluated(results: Path, samples: int) -> bool:
    """Tell whether the results are those of the demo and not of a later `thinkrank evaluate` with other options."""
    from thinkrank.evaluate import read_results
    from thinkrank.recipes.retrieval import THINKING, TRAINED

    if not results.exists():
        return False
    rows = read_results(results)
    return {TRAINED, THINKING} <= {row.system for row in rows} and all(
        row.n == samples and row.split == "test" for row in rows
    )


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
