"""`thinkrank baselines`: systems without a language model, tuned within a budget and judged on all test samples."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from thinkrank.cli import options, tables


def baselines(
    source: options.Source = None,
    out: options.Out = Path("runs/baselines"),
    minutes: Annotated[
        float, typer.Option(help="Minutes for the tuning of all systems together; judging comes on top.")
    ] = 5.0,
    systems: Annotated[
        str | None,
        typer.Option(help="Some of popularity,item-knn,ease,text,als,gru4rec,sasrec, by commas. [default: all]"),
    ] = None,
    path: options.DataPath = None,
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
    """Tune popularity, item-kNN, EASE, texts, ALS, GRU4Rec and SASRec, and judge them on all test samples.

    Settings are chosen one after the other by NDCG@10 on 2,000 validation samples (`--set samples=N`); each system may
    use an equal share of the minutes that are left, and is fitted once even if that takes longer. Writes tuning.json
    (what was tried and chosen, seconds spent), results.json, comparisons.json and a folder for each system, which
    `thinkrank.load` opens, for example to combine it with others.

    The same command again goes on with the systems that are left: one that is done is not tuned again.

    Examples: `thinkrank baselines movielens-100k --minutes 20`,
    `thinkrank baselines amazon-2018 --path office/ --systems item-knn,ease,sasrec --out runs/office-baselines`
    """
    from rich.console import Console

    from thinkrank.evaluate import results_table
    from thinkrank.recipes.baseline_run import TUNING_FILE, baseline_settings, read_tuning, run_baselines
    from thinkrank.training import console_progress

    given = options.layers(
        source, path, option, config, assignments, filters=filters, split=split, on_bad=on_bad, repeats=repeats
    )
    names = [] if systems is None else [name.strip() for name in systems.split(",")]
    settings = baseline_settings(given)
    try:
        rows = run_baselines(settings, out, names, minutes=minutes, device=device, progress=console_progress)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on with the systems that are left\n")
        raise
    if json_output:
        tables.print_json([row.model_dump(mode="json") for row in rows], indent=1)
        return
    Console().print(results_table([row for row in rows if row.metric in tables.SHOWN_METRICS]))
    shown = {row.system for row in rows}
    for record in read_tuning(out):
        if record.system in shown:
            chosen = ", ".join(f"{name} {value}" for name, value in record.chosen.items())
            trials = f"{len(record.trials)} tried in {record.seconds:.0f} s"
            sys.stdout.write(f"{record.system}: {chosen} (validation NDCG@10 {record.ndcg:.4f}, {trials})\n")
    sys.stdout.write(f"everything that was tried: {out / TUNING_FILE}\n")
