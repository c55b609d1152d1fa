"""Rollouts: thoughts about every pair of some groups, and the scores behind them.

Shape legend: B groups, G thoughts about each pair, N candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.language import Completion, packed_states
from thinkrank.language.trajectories import Given, Trajectories, Written
from thinkrank.policy import ListReward, head_surrogate
from thinkrank.rank.r2rank.config import ReinforceOptions
from thinkrank.rank.r2rank.groups import TrainingGroup
from thinkrank.rank.r2rank.model import R2Rank


@dataclass
class Rollout:
    """Hold the thoughts about one group, ready to be read again.

    Attributes:
        trajectories: candidate by candidate, thought by thought.
        scores_GN: of the lists that thought g of every candidate makes.
        before: log-probabilities when the batch was sampled, under the reference, and under the distribution that was
            drawn from where it is not the model's own.
    """

    trajectories: Trajectories
    scores_GN: Float[Tensor, "G N"]
    before: dict[str, Tensor] = field(default_factory=dict)


def sample_thoughts(
    model: R2Rank, drawn: Sequence[tuple[int, TrainingGroup]], options: ReinforceOptions
) -> list[list[list[Completion]]]:
    """Write thoughts about every pair.

    Args:
        model: that writes.
        drawn: groups, each with the number on which its draws depend.
        options: how many thoughts, how they are written, and the seed of the run.

    Returns:
        per group and candidate, its thoughts.
    """
    return model.sample(
        [group.history for _, group in drawn],
        [group.rows for _, group in drawn],
        options.rollout.model_copy(update={"seed": options.seed}),
        num_samples=options.group_size,
        seeds=[number for number, _ in drawn],
        users=[group.user for _, group in drawn],
    )


@torch.no_grad()
def score_thoughts(
    model: R2Rank, groups: Sequence[TrainingGroup], written: Sequence[Sequence[Sequence[Written]]] | None
) -> list[Rollout]:
    """Score every pair after each of its thoughts, or once straight from its prompt if none were written.

    Read in the weights' own format, as the update reads them: scores that are judged come from `R2Rank.scores_after`.
    """
    rollouts = []
    for number, group in enumerate(groups):
        thoughts = [[Given()] for _ in group.rows] if written is None else written[number]
        trajectories = model.trajectories([group.history], [group.rows], [thoughts], users=[group.user])
        scores_R = model.read_scores(trajectories, packed_states(model.backbone, trajectories.packing))
        rollouts.append(Rollout(trajectories, scores_R.view(len(group.rows), -1).T))
    return rollouts


def keep_sampled(rollouts: Sequence[Rollout], written: Sequence[Sequence[Sequence[Completion]]]) -> None:
    """Keep the log-probabilities of thoughts under the distribution that they were drawn from."""
    for rollout, per_pair in zip(rollouts, written, strict=True):
        sampled = [logprob for many in per_pair for thought in many for logprob in thought.logprobs]
        mask_RT = rollout.trajectories.mask_RT
        rollout.before["sampled"] = rollout.trajectories.matrix(torch.tensor(sampled, device=mask_RT.device))


def stacked_scores(rollouts: Sequence[Rollout]) -> Float[Tensor, "B G N"]:
    """Stack the scores of groups of equal length."""
    return torch.stack([rollout.scores_GN for rollout in rollouts])


def first_is_chosen(scores_BGN: Float[Tensor, "B G N"]) -> Float[Tensor, "B N"]:
    """Return what the candidates of training groups are worth: 1 for the positive, which stands first, else 0."""
    gains_BN = torch.zeros_like(scores_BGN[:, 0])
    gains_BN[:, 0] = 1
    return gains_BN


@torch.no_grad()
def facts_of_scores(scores_BGN: Float[Tensor, "B G N"], reward: ListReward) -> dict[str, float]:
    """Tell what the log says of a batch's scores.

    Args:
        scores_BGN: of the lists that the thoughts make.
        reward: whose expectation is exact here.
    """
    ranks_BG = (scores_BGN >= scores_BGN[..., :1]).sum(dim=-1)
    return {
        "reward": -head_surrogate(scores_BGN, first_is_chosen(scores_BGN), reward).item(),
        "greedy_mrr": ranks_BG.float().reciprocal().mean().item(),
        "score_deviation": scores_BGN.std(dim=-1).mean().item(),
        "thought_deviation": scores_BGN.std(dim=1).mean().item() if scores_BGN.shape[1] > 1 else 0.0,
    }


def facts_of_thoughts(written: Sequence[Sequence[Sequence[Completion]]], seconds: float) -> dict[str, float]:
    """Tell what the log says of a batch's thoughts.

    Args:
        written: per group and candidate.
        seconds: that the writing took.
    """
    thoughts = [thought for per_pair in written for many in per_pair for thought in many]
    tokens = sum(len(thought.ids) for thought in thoughts)
    return {
        "thought_tokens": tokens / len(thoughts),
        "closed_share": sum(thought.finish_reason == "closed" for thought in thoughts) / len(thoughts),
        "own_entropy": sum(sum(thought.entropies) for thought in thoughts) / tokens,
        "sampled_tokens_per_second": tokens / seconds,
    }
