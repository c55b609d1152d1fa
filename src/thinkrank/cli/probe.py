"""`thinkrank probe`: does thinking pay on this data?"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from thinkrank.cli import options, tables
from thinkrank.training.progress import console_progress


def probe(
    source: options.Source = None,
    out: options.Out = Path("runs/probe"),
    path: options.DataPath = None,
    option: options.SourceOption = None,
    split: options.Split = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="Minutes for everything, judging too. [default: what the data's size needs]"),
    ] = None,
    trainings: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How often every model is trained, each time with another seed; from 3 on the test counts the chance "
            "of training. [default: 1]",
        ),
    ] = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    filters: options.Filter = None,
    on_bad: options.OnBad = None,
    repeats: options.Repeats = None,
    device: options.Device = "auto",
    dry_run: options.DryRun = False,
    json_output: options.Json = False,
) -> None:
    """Tell in one sentence whether thinking before an answer pays on your data, how sure that is, and what it costs.

    Trains a model without thoughts, ways of thinking, and for each a control that has as much training and does not
    think, all from the same start; judges them on the same test samples. What is compared is told before anything is
    trained; what your data could not have shown stands in the answer.

    Ends with report.html, probe.json and results.json in the run's folder. Ctrl-C or a power cut loses little: the same
    command goes on.

    Examples: `thinkrank probe movielens-100k --minutes 20`, `thinkrank probe table --path shop/ --minutes 30`

    To see it say yes, and no: `thinkrank probe synthetic-relay`, `thinkrank probe synthetic-relay -o shuffled=true`
    """
    with console_progress("starting", 0):
        from thinkrank.recipes.probe_options import probe_settings
        from thinkrank.recipes.probing import planned_probe
        from thinkrank.recipes.probing import probe as run
        from thinkrank.training.run import is_begun
    from thinkrank.training.run import is_begun

    told = [f"probe.{name}={value}" for name, value in (("minutes", minutes), ("trainings", trainings)) if value]
    given = options.layers(
        source, path, option, config, [*told, *(assignments or ())], filters=filters, split=split, on_bad=on_bad,
        repeats=repeats,
    )  # fmt: skip
    settings = probe_settings(given)
    with console_progress("reading the data", 0):
        data = settings.data.load_split(None if dry_run or is_begun(out) else out)
    if dry_run:
        from thinkrank.recipes.layers import toml_of

        settings, plan = planned_probe(settings, data, device=device, progress=console_progress)
        if json_output:
            tables.print_json({"settings": settings.model_dump(mode="json"), "plan": plan.splitlines()})
        else:
            sys.stdout.write(toml_of(settings))
        sys.stderr.write(f"{plan}\nnothing was written: --dry-run\n")
        return
    try:
        found = run(settings, out, split=data, device=device, progress=console_progress)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on with what is not done\n")
        raise
    if json_output:
        import json

        tables.print_json(json.loads((out / "probe.json").read_text(encoding="utf-8")))
        return
    sys.stdout.write("".join(f"{line}\n" for line in (found.sentence, *found.details)))
    sys.stdout.write(f"table and picture: {out / 'report.html'}\n")
