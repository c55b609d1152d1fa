"""`thinkrank demo`: from nothing to reasoned recommendations on real data."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

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

    Takes about seventeen minutes on two CPU cores. Interrupt it whenever you like: the next call goes on from the
    last checkpoint, and a finished run is reused.
    """
    from thinkrank.cli.evaluate import LISTS, print_results, retrieval_systems, write_evaluation
    from thinkrank.cli.train import train_retriever
    from thinkrank.recipes.presets import Preset
    from thinkrank.recipes.settings import Layers, retrieve_settings

    started = time.perf_counter()
    settings = retrieve_settings(Preset.thinkrank, Layers(source="movielens-100k", assignments=DEMO_SETTINGS))
    split = settings.data.load_split()
    _say(f"{split.dataset.name}: {len(split.train):,} training, {len(split.test):,} test samples, ")
    _say(f"{len(split.dataset.catalogue):,} movies\n")
    run, model = train_retriever(settings, split, out)
    drawn = split.test.subset(samples, seed=0)
    if (out / "report.html").exists() and _is_evaluated(out / "results.json", len(drawn)):
        sys.stderr.write(f"{out / 'results.json'} is there already: reusing it\n")
        print_results(out)
    else:
        _list_writer(out / LISTS)
        systems = retrieval_systems(model, split, think=True, untrained=False)
        write_evaluation(run, model, split, drawn, systems, part="test")
    _say(f"{(time.perf_counter() - started) / 60:.1f} minutes. Now try:\n")
    _say(f'  thinkrank recommend {out} -H "Toy Story" -H "Aladdin" -H "The Lion King"\n')


def _list_writer(folder: Path) -> None:
    """Train a small re-ranker, of which the report of the run around it will tell."""
    from thinkrank.cli.rerank import train_reranker
    from thinkrank.recipes.reporting import write_reranking_report
    from thinkrank.recipes.settings import Layers, rerank_settings

    sys.stderr.write("a list writer that pauses to think, in a made world\n")
    settings = rerank_settings(Layers(source="synthetic"))
    split = settings.data.load_split()
    run, model = train_reranker(settings, split, folder)
    write_reranking_report(run, model, split)


def _is_evaluated(results: Path, samples: int) -> bool:
    """Whether the results are those of the demo and not of a later `thinkrank evaluate` with other options."""
    from thinkrank.cli.evaluate import THINKING, TRAINED
    from thinkrank.evaluate import read_results

    if not results.exists():
        return False
    rows = read_results(results)
    return {TRAINED, THINKING} <= {row.system for row in rows} and all(
        row.n == samples and row.split == "test" for row in rows
    )


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
