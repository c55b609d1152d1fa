"""What tokens and items share: probability ratios, and the objective that stops rewarding them beyond a bound."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from thinkrank.policy._checks import at_least_fp32, check_shapes

_LOG_RATIO_LIMIT = 20.0
"""A product over hundreds of tokens would overflow, and its gradient would be NaN."""


def clipped_objective(
    ratios: Float[Tensor, "*shape"], advantages: Float[Tensor, "*shape"], clip_low: float, clip_high: float
) -> Float[Tensor, "*shape"]:
    """Compute ℓ(r, A) = min(r A, clip(r, 1 - ε_low, 1 + ε_high) A), to be maximised.

    Args:
        ratios: r, of the policy's probability to the old policy's.
        advantages: A, any unit, which the result has too.
        clip_low: ε_low.
        clip_high: ε_high.

    Raises:
        ValueError: if the shapes differ, clip_low is outside 0 to 1, or clip_high is negative.

    Source: PPO (Schulman et al. 2017), eq. 7; two bounds as in DAPO (Yu et al. 2025).
    """
    if not 0 <= clip_low <= 1 or clip_high < 0:
        raise ValueError(f"needs 0 <= clip_low <= 1 and clip_high >= 0, got {clip_low} and {clip_high}")
    check_shapes(ratios.shape, advantages=advantages)
    return torch.minimum(ratios * advantages, ratios.clamp(1 - clip_low, 1 + clip_high) * advantages)


def is_clipped(
    ratios: Float[Tensor, "*shape"], advantages: Float[Tensor, "*shape"], clip_low: float, clip_high: float
) -> Float[Tensor, "*shape"]:
    """Return 1 where the clip takes the gradient away: ratio above its bound and A > 0, or below and A < 0; else 0."""
    above = (ratios > 1 + clip_high) & (advantages > 0)
    below = (ratios < 1 - clip_low) & (advantages < 0)
    return (above | below).to(ratios.dtype)


def masked_difference(
    upper: Float[Tensor, "*shape"], lower: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Subtract within the mask, 0 outside; masked before subtracting, so that no NaN reaches a gradient."""
    return at_least_fp32(upper).masked_fill(~mask, 0.0) - at_least_fp32(lower).masked_fill(~mask, 0.0)


def bounded(log_ratios: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Cut log-ratios at ±20, beyond which there is no gradient (ours)."""
    return log_ratios.clamp(-_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)


def masked_mean(values: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Average within the mask, without a gradient; 0 if the mask is empty."""
    return values.detach().masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)
