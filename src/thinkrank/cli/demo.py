"""`thinkrank demo`: from nothing to reasoned recommendations on real data."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinkrank.cli import options, tables
from thinkrank.cli.training import show_plan, trained

if TYPE_CHECKING:
    from thinkrank.recipes.base import OpenRun

DEMO_MINUTES = 5.8
"""Of training R²ec; reading titles, baselines' settings, the ranker and judging on every test sample come on top."""


def demo(
    out: Annotated[
        Path,
        typer.Option("--out", callback=options.from_home, help="Folder of the run; a finished run there is reused."),
    ] = Path("runs/demo"),
    minutes: Annotated[float, typer.Option(min=0.1, help="Minutes of training.")] = DEMO_MINUTES,
    samples: Annotated[int | None, typer.Option(min=10, help="Test samples to judge on. [default: all]")] = None,
    assignments: options.Assignments = None,
    dry_run: options.DryRun = False,
    json_output: Annotated[bool, typer.Option("--json", help="With --dry-run, print JSON for machines.")] = False,
) -> None:
    """Train a cascade on MovieLens-100K with SmolLM2-135M, judge it beside tuned baselines, and give reasons.

    R²ec reads each title once and histories as one position per film. Popularity, item-kNN, EASE, ALS and the likeness
    of texts are combined with it. A ranker that weighs evidence sorts the hundred films that they find; the report
    shows what each stage adds and costs.

    Takes about 10 minutes on two CPU cores. Interrupt it whenever you like: the next call goes on from the last
    checkpoint, and a finished run is reused.
    """
    from thinkrank.recipes.base import EvaluationOptions
    from thinkrank.recipes.cascade import RECIPE, cascade_settings
    from thinkrank.recipes.evaluation import evaluate
    from thinkrank.recipes.layers import Layers
    from thinkrank.recipes.presets import Preset
    from thinkrank.training import console_progress

    started = time.perf_counter()
    given = Layers(source="movielens-100k", assignments=(f"training.max_minutes={minutes}", *(assignments or ())))
    settings = cascade_settings(Preset.thinkrank, given)
    split = settings.data.load_split()
    settings = RECIPE.sized(settings, split)
    judging = EvaluationOptions(samples=samples)
    if dry_run:
        show_plan(RECIPE, settings, split, judging=judging, json_output=json_output)
        return
    _say(f"{split.dataset.name}: {len(split.train):,} training, {len(split.test):,} test samples, ")
    _say(f"{len(split.dataset.catalogue):,} movies\n")
    opened = trained(RECIPE, settings, out, split)
    if (out / "report.html").exists() and _is_evaluated(out / "results.json", min(samples or 10**9, len(split.test))):
        sys.stderr.write(f"{out / 'results.json'} is there already: reusing it\n")
        tables.print_results(out)
    else:
        judged = evaluate(opened, judging, progress=console_progress)
        tables.print_results(out)
        _say(f"{judged.verdict}\n\n")
    _say_reasons(opened)
    _say(f"{(time.perf_counter() - started) / 60:.1f} minutes. Now try:\n")
    _say(f'  thinkrank recommend {out} -H "Toy Story" -H "Aladdin" -H "The Lion King"\n')
    _say(f"  thinkrank serve {out}    # a page to look inside\n")


def _say_reasons(opened: "OpenRun") -> None:
    """Show what one person of the test part is recommended, and why."""
    from thinkrank.recipes.reasons import counted_reasons, recommended_with_reasons

    reasons, test = counted_reasons(opened.settings, opened.split), opened.split.test
    if reasons is not None:
        _say(recommended_with_reasons(opened.model, test[len(test) // 2 :], reasons) + "\n")


def _is_evaluated(results: Path, samples: int) -> bool:
    """Tell whether the results are those of the demo and not of a later `thinkrank evaluate` with other options."""
    from thinkrank.evaluate import read_results
    from thinkrank.recipes.cascade import CASCADE

    if not results.exists():
        return False
    rows = read_results(results)
    return CASCADE in {row.system for row in rows} and all(row.n == samples and row.split == "test" for row in rows)


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
