"""Systems that think, and what could refute that it is the thought that helps, at equal cost."""

import copy
from typing import Any

from thinkrank.language.replacing import FILLER, Control, Replacing
from thinkrank.recipes.base import EvaluationOptions
from thinkrank.stages.protocols import Configured

CONTROLS: dict[Control, str] = {"filler": "as many empty words", "other": "the thought about another"}


def thinking_systems(name: str, model: Any, options: EvaluationOptions) -> dict[str, Configured]:
    """Return a model that thinks as an evaluation says, behind its controls if they are asked for.

    Args:
        name: in tables.
        model: R²ec, or R2Rank.
        options: thoughts of each answer, and whether there are controls.
    """
    how = {"think": True, "samples": options.thoughts}
    chosen = CONTROLS if options.controls else {}
    systems = {f"{name}: {instead}": Configured(controlled(model, one), **how) for one, instead in chosen.items()}
    return {**systems, name: Configured(model, **how)}


def controlled(model: Any, control: Control) -> Any:
    """Return a model with what a control puts in the place of every thought, at the thought's cost.

    Args:
        model: R²ec, or R2Rank; it is left as it is, and shares its weights.
        control: which.
    """
    other = copy.copy(model)
    other.instead = Replacing(control, model.prompts.text(FILLER))
    return other
