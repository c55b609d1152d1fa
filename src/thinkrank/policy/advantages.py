"""How much better a rollout did than its siblings.

Rollouts of one prompt form a row, so nothing here can mix prompts. Shape legend: B users, G rollouts.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from thinkrank.policy._checks import at_least_fp32, check_matrix

ROUNDING = 4
"""Units in the last place by which equal rewards may differ."""


def tied_groups(rewards_BG: Float[Tensor, "B G"]) -> Bool[Tensor, "B"]:
    """Mark the groups of G equal rewards, which have nothing to learn from; a single rollout is such a group.

    Rewards are equal if they differ by no more than the rounding of sums does, `ROUNDING` units in the last place of
    the largest: the same sum taken in another order is no other reward.
    """
    check_matrix("rewards", rewards_BG)
    rewards_BG = at_least_fp32(rewards_BG)
    least_B, most_B = rewards_BG.aminmax(dim=1)
    return most_B - least_B <= ROUNDING * torch.finfo(rewards_BG.dtype).eps * rewards_BG.abs().amax(dim=1)


def grpo_advantages(
    rewards_BG: Float[Tensor, "B G"], *, epsilon: float = 1e-4, scale_by_std: bool = True
) -> Float[Tensor, "B G"]:
    """Compute group-relative advantages: A_bg = (r_bg - mean_b) / (std_b + ε).

    std is the unbiased one (divided by G - 1) of the group, as in TRL, whose ε is the default here; the released R²ec
    code has the same std and 1e-8. ε matters in groups whose rewards are nearly equal: with a tiny ε differences of
    any size become advantages of size 1. A tied group gets exactly 0, with no rounding left over.

    Args:
        rewards_BG: one reward per rollout, any unit.
        epsilon: added to the standard deviation, in the unit of the rewards.
        scale_by_std: False leaves r_bg - mean_b, in the unit of the rewards (Dr. GRPO, Liu et al. 2025).

    Raises:
        ValueError: with fewer than two rollouts per prompt, a reward that is not finite, or a negative epsilon.

    Source: DeepSeekMath (Shao et al. 2024), section 4.1.2; the default of R²ec.
    """
    if epsilon < 0:
        raise ValueError(f"epsilon must not be negative, got {epsilon}")
    rewards_BG = _comparable(rewards_BG)
    centred_BG = rewards_BG - rewards_BG.mean(dim=1, keepdim=True)
    if scale_by_std:
        centred_BG = centred_BG / (rewards_BG.std(dim=1, keepdim=True) + epsilon)
    return centred_BG.masked_fill(tied_groups(rewards_BG)[:, None], 0.0)


def rloo_advantages(rewards_BG: Float[Tensor, "B G"]) -> Float[Tensor, "B G"]:
    """Compute leave-one-out advantages: each rollout against the mean of its siblings.

    A_bg = r_bg - (Σ_h r_bh - r_bg) / (G - 1) = G / (G - 1) (r_bg - mean_b), so every row sums to zero. A tied group
    gets exactly 0, with no rounding left over.

    Args:
        rewards_BG: one reward per rollout, any unit; the advantages have the same.

    Raises:
        ValueError: with fewer than two rollouts per prompt, or a reward that is not finite.

    Source: Kool et al. 2019; Ahmadian et al. 2024. R²ec compares GRPO with it, but the released code divides the
    siblings' sum by G, which is not zero-mean and not reproduced here.
    """
    rewards_BG = _comparable(rewards_BG)
    num_rollouts = rewards_BG.shape[1]
    centred_BG = rewards_BG - rewards_BG.mean(dim=1, keepdim=True)
    advantages_BG = num_rollouts / (num_rollouts - 1) * centred_BG
    return advantages_BG.masked_fill(tied_groups(rewards_BG)[:, None], 0.0)


def _comparable(rewards_BG: Tensor) -> Tensor:
    _, num_rollouts = check_matrix("rewards", rewards_BG)
    if num_rollouts < 2:
        raise ValueError(f"comparing rollouts needs at least 2 per prompt, got {num_rollouts}")
    if not bool(rewards_BG.isfinite().all()):
        raise ValueError("rewards must be finite; mend the reward, or leave out the prompt")
    return at_least_fp32(rewards_BG)
