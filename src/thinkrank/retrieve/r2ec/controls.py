"""What an answer would be after another thought: the controls that make "thinking helps" a finding.

Shape legend: B users, I items of the catalogue.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float32

from thinkrank.data.history import History
from thinkrank.language import Completion
from thinkrank.retrieve.r2ec.model import R2ec

Control = Literal["empty", "other", "filler"]
"""No thought at all; the thought about another history; as many tokens that say nothing."""

_FILLER = " ..."


def control_thoughts(model: R2ec, thoughts: Sequence[Completion], control: Control) -> list[Completion]:
    """Put what a control reads in the place of each thought.

    Args:
        model: what reads.
        thoughts: what was really written, one about each history. The other thought is the one half the batch away, so
            that neighbours, which may be of one person, are not exchanged.
        control: which.

    Raises:
        ValueError: if there are fewer than two thoughts to exchange.
    """
    if control == "other" and len(thoughts) < 2:
        raise ValueError("exchanging thoughts needs at least two histories")
    filler = tuple(model.prompts.text(_FILLER))
    replaced = []
    for index, thought in enumerate(thoughts):
        match control:
            case "empty":
                ids: tuple[int, ...] = ()
            case "other":
                ids = thoughts[(index + len(thoughts) // 2) % len(thoughts)].ids_before_stop
            case "filler":
                count = thought.num_before_stop
                ids = (filler * (count // len(filler) + 1))[:count]
        replaced.append(replace(thought, ids=ids, num_before_stop=len(ids), last_state=None))
    return replaced


def control_scores(
    model: R2ec, histories: Sequence[History], thoughts: Sequence[Completion], control: Control
) -> Float32[np.ndarray, "B I"]:
    """Score the whole catalogue after what a control puts in the place of each thought; see `control_thoughts`."""
    replaced = [thought.ids for thought in control_thoughts(model, thoughts, control)]
    return model.catalogue_scores(model.user_states(histories, replaced)).cpu().numpy()
