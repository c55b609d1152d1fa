"""The last action of a trajectory: choosing an item, among what competes with it.

Shape legend: R trajectories, G of them per group, N candidates, L line ends, I items of the catalogue, D width.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from thinkrank.policy import item_logprobs, locate_targets
from thinkrank.retrieve.r2ec.head import RetrievalHead
from thinkrank.retrieve.r2ec.rollouts import Group
from thinkrank.retrieve.r2ec.seen import Seen


class CompetingItems:
    """Gather items that compete in one update, and what flows back to them from all of its parts.

    Every part of a batch scores against the same vectors. They are computed once; the parts' gradients gather on a
    detached copy and go on into residuals and item texts when the last part is done.

    Args:
        made_ND: unit vectors, with their graph.
        items_N: catalogue rows; None for the whole catalogue in order.
    """

    def __init__(self, made_ND: Float[Tensor, "N D"], items_N: Int[Tensor, "N"] | None) -> None:
        self._made_ND, self.items_N = made_ND, items_N
        self.vectors_ND = made_ND.detach().requires_grad_(made_ND.requires_grad)

    def flow_back(self) -> None:
        """Hand on what the parts left."""
        if self.vectors_ND.grad is not None:
            self._made_ND.backward(self.vectors_ND.grad)


def target_rows(groups: Sequence[Group], device: torch.device) -> Int[Tensor, "B"]:
    """Return the catalogue row of each group's target."""
    return torch.tensor([group.sample.target for group in groups], device=device)


def target_logprobs(
    head: RetrievalHead,
    states_RD: Float[Tensor, "R D"],
    groups: Sequence[Group],
    candidates: CompetingItems,
    *,
    filter_seen: bool,
) -> Float[Tensor, "R"]:
    """Compute the log-probability of the target after each thought, among the candidates.

    Args:
        head: from states to scores.
        states_RD: at the closings, thought by thought and group by group.
        groups: whose thoughts.
        candidates: what competes; the targets must be among them.
        filter_seen: items of a history do not compete.
    """
    device, items_N, num_items = states_RD.device, candidates.items_N, len(head.residual_mask_I1)
    sizes_B = torch.tensor([len(group.written) for group in groups], device=device)
    targets_R = target_rows(groups, device).repeat_interleave(sizes_B)
    seen = [group.sample.history.items if filter_seen else np.empty(0, dtype=np.int32) for group in groups]
    seen_RN = Seen.of(seen).among(items_N, num_items, device).repeat_interleave(sizes_B, dim=0)
    scores_RN = head.scores(head.user_vectors(states_RD), candidates.vectors_ND, items_N)
    if items_N is None:
        return item_logprobs(scores_RN, targets_R, seen_RN)
    columns_R, repeated_RN = locate_targets(targets_R, items_N)
    return item_logprobs(scores_RN, columns_R, repeated_RN | seen_RN)


def line_loss(
    head: RetrievalHead,
    states_LD: Float[Tensor, "L D"],
    groups: Sequence[Group],
    catalogue: CompetingItems,
    *,
    filter_seen: bool,
) -> Float[Tensor, ""]:
    """Add up the cross-entropies with which the ends of history lines predict the next item.

    Where ties are ``strict``, the last line of a day predicts all of the next day; see `History.reads`.

    Args:
        head: from states to scores.
        states_LD: at the line ends, oldest first and group by group.
        groups: whose histories; a prompt may show only the newest lines of one.
        catalogue: the whole of it.
        filter_seen: whether seen items do not compete.
    """
    device, targets, seen = states_LD.device, [], []
    lines: list[int] = []
    num_lines = 0
    for group in groups:
        history, shown = group.sample.history, len(group.prompt.line_ends)
        items, reads = np.append(history.items, group.sample.target), np.append(history.reads, len(history) - 1)
        for place in np.flatnonzero(reads >= len(history) - shown):
            targets.append(int(items[place]))
            seen.append(items[: reads[place] + 1])
            lines.append(num_lines + int(reads[place]) - (len(history) - shown))
        num_lines += shown
    states_PD = states_LD[torch.tensor(lines, dtype=torch.long, device=device)]
    is_line_P = torch.ones(len(targets), dtype=torch.bool, device=device)
    scores_PI = head.scores(head.user_vectors(states_PD, is_line_P), catalogue.vectors_ND)
    targets_P = torch.tensor(targets, dtype=torch.long, device=device)
    left_out = Seen.of(seen) if filter_seen else Seen.nothing(len(targets))
    return -item_logprobs(scores_PI, targets_P, left_out.among(None, scores_PI.shape[1], device)).sum()
