"""How commands train: with a bar on the terminal, and a word on how to go on when interrupted."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thinkrank.recipes.base import OpenRun, Recipe


def trained(recipe: "Recipe", settings: Any, folder: Path, split: Any, *, device: str = "auto") -> "OpenRun":
    """Train, go on, or reuse; see `thinkrank.recipes.train`."""
    from thinkrank.recipes.base import OpenRun, train
    from thinkrank.training import console_progress

    try:
        run, model = train(recipe, settings, folder, split=split, device=device, progress=console_progress)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on from where it was\n")
        raise
    return OpenRun(recipe, settings, split, run, model)
