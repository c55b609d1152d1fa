"""How commands train: with a bar on the terminal, and a word on how to go on when interrupted."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thinkrank.distributed.world import World
    from thinkrank.recipes.base import OpenRun, Recipe


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
