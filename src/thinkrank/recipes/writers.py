"""What a run tells of its re-ranker beside figures: which weights were kept, and whether its state matters.

Shape legend: L lists.
"""

from typing import Any

import numpy as np
import torch

from thinkrank.data import ImpressionDataset
from thinkrank.rerank import EGLR
from thinkrank.rerank.eglr.config import RewardKind
from thinkrank.rerank.eglr.search import headroom
from thinkrank.rerank.eglr.state import state_report
from thinkrank.rerank.lists import batches, checked_lists

STATE_LISTS = 300
"""Lists on which is measured whether a generator uses its state."""


def kept_weights(step: int) -> str:
    """Say which weights a reinforcement left, by the step that they were kept after."""
    return f"weights of step {step}" if step else "weights of step 0: those of the warm start, nothing was reinforced"


def state_facts(model: EGLR, lists: ImpressionDataset, places: int, reward: RewardKind) -> dict[str, Any]:
    """Measure whether the generator uses its state, and what the evaluator's reward leaves to gain.

    Args:
        model: with a trained evaluator.
        lists: of which at most `STATE_LISTS`, spread evenly, are looked at.
        places: of the lists that are written.
        reward: what of the evaluator's judgement.

    Returns:
        ``state`` and ``headroom`` as plain values; nothing where no list has a choice.
    """
    chooses = np.flatnonzero(lists.lengths_L > 1)
    if not len(chooses):
        return {}
    some = lists.subset(chooses[np.linspace(0, len(chooses) - 1, min(STATE_LISTS, len(chooses))).astype(int)])
    requests, candidates = checked_lists(some.requests, some.candidates)
    reader, history = model.schema.reader(requests, candidates), model.config.lists.max_history
    parts = [reader(part).to(model.device) for part in batches(requests, candidates, 100, max_history=history)]
    found = state_report(model.writer, parts, places)
    left = headroom(model.writer, model.evaluator, parts, places, reward, torch.from_numpy(some.users_L))
    state = {**found.model_dump(), "uses_state": found.uses_state, "sentence": found.sentence}
    return {"state": state, "headroom": left.model_dump()}
