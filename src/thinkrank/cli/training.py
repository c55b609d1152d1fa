"""How commands plan and train: with a bar on the terminal, and a word on how to go on when interrupted."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkrank.cli import tables

if TYPE_CHECKING:
    from thinkrank.distributed.world import World
    from thinkrank.recipes.base import EvaluationOptions, OpenRun, Recipe


def trained(
    recipe: "Recipe", settings: Any, folder: Path, split: Any, *, device: str = "auto", world: "World | None" = None
) -> "OpenRun":
    """Train, go on, or reuse; see `thinkrank.recipes.train`. What it takes here is measured and told first."""
    from thinkrank.distributed.world import SINGLE
    from thinkrank.recipes.base import OpenRun
    from thinkrank.recipes.running import train
    from thinkrank.training import console_progress, no_progress
    from thinkrank.training.run import has_checkpoint

    world = world or SINGLE
    progress = console_progress if world.is_first else no_progress
    try:
        run, model = train(
            recipe, settings, folder, split=split, device=device, world=world, progress=progress, measure=True
        )
    except KeyboardInterrupt:
        goes_on = "goes on from the last checkpoint" if has_checkpoint(folder) else "begins anew: no checkpoint yet"
        sys.stderr.write(f"interrupted; the same command {goes_on}\n")
        raise
    return OpenRun(recipe, recipe.settings.from_run(folder), split, run, model)


def show_plan(
    recipe: "Recipe",
    settings: Any,
    split: Any,
    *,
    device: str = "auto",
    ranks: int = 1,
    judging: "EvaluationOptions | None" = None,
    json_output: bool,
) -> None:
    """Print what a run would be: its settings on stdout, so that --config takes them, and the plan on stderr."""
    from thinkrank.recipes.layers import toml_of
    from thinkrank.recipes.running import planned
    from thinkrank.training import console_progress

    plan = planned(recipe, settings, split, device=device, ranks=ranks, judging=judging, progress=console_progress)
    if json_output:
        settings = plan.settings.model_dump(mode="json")
        tables.print_json({"settings": settings, "plan": plan.figures, "seconds": plan.seconds})
    else:
        sys.stdout.write(toml_of(plan.settings))
    sys.stderr.write(f"{plan.text}\nnothing was written: --dry-run\n")
