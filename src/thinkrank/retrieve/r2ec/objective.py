"""The loss of a micro-batch: tokens of thoughts, item actions, plain cross-entropy and line ends, each with its weight.

Shape legend: R trajectories, T tokens of a packing, U of the one that thoughts are written in, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.distributed.world import SINGLE, World
from thinkrank.language import Backbone
from thinkrank.language.trajectories import action_logprobs
from thinkrank.policy import Surrogate, clipped_surrogate, combine_surrogates, item_surrogate, log_mean
from thinkrank.retrieve.r2ec.balance import WRITTEN
from thinkrank.retrieve.r2ec.compare import Part
from thinkrank.retrieve.r2ec.item_action import CompetingItems, line_loss, target_logprobs
from thinkrank.retrieve.r2ec.model import R2ec
from thinkrank.retrieve.r2ec.options import RecpoOptions
from thinkrank.training.shared import whole_surrogate


@dataclass(frozen=True)
class PartLosses:
    """Hold the terms of a part's loss, as shares of the batch; None or 0 for what the options leave out.

    Attributes:
        terms: each as it enters the loss, weighted, with its graph.
        token: of what was written.
        item: of the answers that the thoughts led to.
        item_cross_entropy: of the targets after the thoughts.
        line_loss: of the line ends.
    """

    terms: dict[str, Float[Tensor, ""]]
    token: Surrogate | None
    item: Surrogate | None
    item_cross_entropy: float
    line_loss: float

    @property
    def whole(self) -> Float[Tensor, ""]:
        """Return their sum."""
        return torch.stack(list(self.terms.values())).sum()


def part_losses(
    model: R2ec,
    part: Part,
    states_TD: Float[Tensor, "T D"],
    candidates: CompetingItems,
    catalogue: CompetingItems,
    options: RecpoOptions,
    *,
    num_groups: int,
    num_lines: int,
    token_factor: float = 1.0,
    asked_TD: Float[Tensor, "U D"] | None = None,
) -> PartLosses:
    """Compute every term that the options name.

    Args:
        model: whose heads choose.
        part: of a batch. Its log-probabilities become those of before the first update, if they are not kept yet.
        states_TD: of its packing.
        candidates: what the targets compete with after thoughts.
        catalogue: what they compete with at line ends.
        options: weights of the terms.
        num_groups: of the whole batch, which the terms are means over.
        num_lines: line ends of the whole batch.
        token_factor: what the weight of the token term is multiplied by.
        asked_TD: of the packing that thoughts are written in; None where it is the one that is read.
    """
    terms: dict[str, Tensor] = {}
    token, item, cross_entropy, lines = None, None, 0.0, 0.0
    if options.token_weight:
        token = token_surrogate(model.backbone, part, states_TD if asked_TD is None else asked_TD, options)
        terms[WRITTEN] = options.token_weight * token_factor * token.loss
    if options.reads_thoughts:
        logprobs_R = target_logprobs(
            model.head,
            states_TD[part.episodes.readouts],
            part.groups,
            candidates,
            filter_seen=options.filter_seen,
        )
        num_trajectories = num_groups * options.group_size
        item = item_surrogate(
            logprobs_R,
            part.before.setdefault("items", logprobs_R.detach()),
            part.item_advantages_R,
            part.item_weights_R,
            num_trajectories=num_trajectories,
            clip_low=options.clip_low,
            clip_high=options.clip_high,
        )
        floor = -logprobs_R.sum() / num_trajectories
        cross_entropy = floor.item()
        terms |= {"item": options.item_weight * item.loss, "floor": options.item_floor * floor}
        if options.item_marginal:
            mean_B = log_mean(logprobs_R.view(len(part.groups), -1))
            terms["marginal"] = -options.item_marginal * mean_B.sum() / num_groups
    if options.line_weight:
        states_LD, seen = states_TD[part.line_ends], options.filter_seen
        line = line_loss(model.head, states_LD, part.groups, catalogue, filter_seen=seen) / num_lines
        lines = line.item()
        terms["line"] = options.line_weight * line
    return PartLosses(terms, token, item, cross_entropy, lines)


def token_surrogate(
    backbone: Backbone, part: Part, states_TD: Float[Tensor, "T D"], options: RecpoOptions
) -> Surrogate:
    """Compute the loss of what was written; arguments as for `part_losses`, states as they were when it was written."""
    logprobs_RT, entropies_RT = action_logprobs(
        backbone, part.asked, states_TD, entropy=options.entropy_coefficient > 0
    )
    sampled_RT = None
    if options.importance_weights:
        sampled = [logprob for group in part.groups for thought in group.written for logprob in thought.logprobs]
        sampled_RT = part.asked.matrix(torch.tensor(sampled, device=states_TD.device))
    return clipped_surrogate(
        logprobs_RT,
        part.before.setdefault("tokens", logprobs_RT.detach()),
        part.token_advantages_R,
        part.asked.mask_RT,
        denominators_B=part.denominators_R,
        clip_low=options.clip_low,
        clip_high=options.clip_high,
        ratio_level=options.ratio_level,
        sampled_logprobs_BT=sampled_RT,
        weight_cap=options.weight_cap,
        reference_logprobs_BT=part.before.get("reference"),
        kl_coefficient=options.kl_coefficient,
        entropies_BT=entropies_RT,
        entropy_coefficient=options.entropy_coefficient,
    )


def loss_facts(parts: Sequence[PartLosses], options: RecpoOptions, world: World = SINGLE) -> dict[str, float]:
    """Describe the losses of a batch, of which each process has some parts, for the log."""
    facts = {
        **_surrogate_facts("token", [part.token for part in parts if part.token is not None], world),
        **_surrogate_facts("item", [part.item for part in parts if part.item is not None], world),
    }
    if options.reads_thoughts:
        facts["item_cross_entropy"] = world.total(sum(part.item_cross_entropy for part in parts))
    if options.line_weight:
        facts["line_loss"] = world.total(sum(part.line_loss for part in parts))
    return facts


def _surrogate_facts(name: str, parts: Sequence[Surrogate], world: World) -> dict[str, float]:
    if not parts:
        return {}
    whole = whole_surrogate(combine_surrogates(parts), world)
    values = {
        "loss": whole.loss,
        "clip_share": whole.clip_share,
        "ratio": whole.mean_ratio,
        "importance_weight": whole.mean_weight,
        "kl": whole.mean_kl,
        "entropy": whole.mean_entropy,
    }
    return {f"{name}_{key}": value.item() for key, value in values.items() if value is not None}
