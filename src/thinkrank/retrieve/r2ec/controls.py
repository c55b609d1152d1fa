"""What an answer would be after another thought: the controls that make "thinking helps" a finding.

Shape legend: B users, S samples, I items of the catalogue.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Float64, Integer

from thinkrank.data.history import History
from thinkrank.data.splits import Samples
from thinkrank.language import Completion
from thinkrank.language.replacing import FILLER, Control, replaced
from thinkrank.retrieve.r2ec.model import R2ec
from thinkrank.stages.order import mask_seen
from thinkrank.teachers.history_rules import RuleWriter


def oracle_thoughts(model: R2ec, targets_S: Integer[np.ndarray, "S"]) -> list[tuple[int, ...]]:
    """Write the attributes of each target as a thought: if they do not help the reader, no thought of them can.

    Args:
        model: whose words are used; see `R2ec.user_states` for what they lead to.
        targets_S: catalogue rows.

    Returns:
        the ids of each thought, without the closing.
    """
    writer = RuleWriter(model.catalogue, noun=model.config.prompt.noun)
    return [tuple(model.prompts.text(writer.about(int(row)))) for row in targets_S]


@torch.no_grad()
def scores_after(
    model: R2ec, histories: Sequence[History], thoughts: Sequence[Sequence[int] | None]
) -> Float32[np.ndarray, "B I"]:
    """Score the whole catalogue after thoughts, or without one, each read where answers of that kind are.

    Args:
        model: what answers.
        histories: one for each thought.
        thoughts: ids of each, without the closing; None for the answer without one.
    """
    scores_BI = np.empty((len(histories), len(model.catalogue)), dtype=np.float32)
    without = [row for row, thought in enumerate(thoughts) if thought is None]
    if without:
        users_BD = model.users_after([histories[row] for row in without], None)
        scores_BI[without] = model.vectors.scores(users_BD).float().cpu().numpy()
    behind = {row: thought for row, thought in enumerate(thoughts) if thought is not None}
    if behind:
        states_BD = model.user_states([histories[row] for row in behind], [*behind.values()])
        scores_BI[[*behind]] = model.catalogue_scores(states_BD).cpu().numpy()
    return scores_BI


def target_logprobs_after(
    model: R2ec, samples: Samples, thoughts: Sequence[Sequence[int]] | None = None, *, batch_size: int = 64
) -> Float64[np.ndarray, "S"]:
    """Compute the log-probability of each target after a thought, or without any, in nats; seen items do not compete.

    Args:
        model: what answers.
        samples: histories and targets.
        thoughts: ids of each, without the closing; None for the answer without one.
        batch_size: samples read at a time.
    """
    found = [np.zeros(0)]
    for part, requests in samples.requests().batches(batch_size):
        histories, targets = requests.histories, torch.from_numpy(samples.targets[part].astype(np.int64))
        scores = scores_after(model, histories, [None] * len(histories) if thoughts is None else thoughts[part])
        if not samples.dataset.repeats:
            own = scores[np.arange(len(scores)), samples.targets[part]]
            scores = mask_seen(scores, histories)
            scores[np.arange(len(scores)), samples.targets[part]] = own  # a target always competes
        found.append(torch.from_numpy(scores).double().log_softmax(1).gather(1, targets[:, None])[:, 0].numpy())
    return np.concatenate(found)


def control_thoughts(model: R2ec, thoughts: Sequence[Completion], control: Control) -> list[Completion]:
    """Put what a control reads in the place of each thought, one about each history; see `replaced`."""
    return replaced(thoughts, control, model.prompts.text(FILLER))


def control_scores(
    model: R2ec, histories: Sequence[History], thoughts: Sequence[Completion], control: Control
) -> Float32[np.ndarray, "B I"]:
    """Score the whole catalogue after what a control puts in the place of each thought; see `control_thoughts`."""
    read = [None if control == "empty" else thought.ids for thought in control_thoughts(model, thoughts, control)]
    return scores_after(model, histories, read)
