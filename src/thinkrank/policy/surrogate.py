"""The clipped surrogate loss of a policy that writes tokens.

Every sequence has one number it is divided by (`denominators`), fixed for the whole batch before any part of it is
computed. The losses of micro-batches, and their gradients, therefore add up to those of the batch.

Shape legend: B sequences (all rollouts of all prompts), T tokens, U units that have a ratio of their own: the T tokens,
or 1 for the whole sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from thinkrank.policy._checks import at_least_fp32, check_matrix, check_shapes
from thinkrank.policy.clipping import bounded, clipped_objective, is_clipped, masked_difference, masked_mean
from thinkrank.policy.options import Normalisation, RatioLevel


@dataclass(frozen=True)
class Surrogate:
    """Hold a loss and what happened in it. Only the loss carries a gradient; all are scalars on its device.

    Attributes:
        loss: to be minimised.
        clip_share: share of units whose gradient the clip took away: ratio above its bound and advantage positive, or
            below and negative.
        mean_ratio: over units, of the policy to the old policy.
        mean_weight: over units, importance weight after truncation; None without sampled log-probabilities.
        mean_kl: over action tokens, k3 estimate in nats of the divergence from the reference; None without one.
        mean_entropy: over action tokens, in nats; None unless given.
        num_units: units the first three are means over.
        num_actions: tokens the last two are means over.
    """

    loss: Float[Tensor, ""]
    clip_share: Float[Tensor, ""]
    mean_ratio: Float[Tensor, ""]
    mean_weight: Float[Tensor, ""] | None
    mean_kl: Float[Tensor, ""] | None
    mean_entropy: Float[Tensor, ""] | None
    num_units: Int[Tensor, ""]
    num_actions: Int[Tensor, ""]


def denominators(
    lengths_B: Int[Tensor, "B"], normalisation: Normalisation, *, constant_length: int | None = None
) -> Float[Tensor, "B"]:
    """Compute what each sequence's sum of token losses is divided by.

    With n_b action tokens in sequence b the loss is Σ_b (Σ_t loss_bt) / denominator_b, where denominator_b is

    - "token": Σ_b n_b, so every action token of the batch weighs the same (DAPO);
    - "sequence": B n_b, so every sequence weighs the same, whatever its length (GRPO);
    - "constant": B L, so a token weighs the same in every batch (Dr. GRPO);
    - "sum": B, so sum over tokens and mean over sequences (R²ec, eq. 8 as others transcribed it).

    Args:
        lengths_B: action tokens of every sequence of the whole batch, over all micro-batches and processes. A sequence
            without any adds nothing to the loss; "sequence", "constant" and "sum" still count it in B. Where
            gradients are averaged over processes, multiply the loss by their number.
        normalisation: which of the four.
        constant_length: L, for instance the token budget.

    Raises:
        ValueError: if "constant" has no positive length, or another normalisation has one.
    """
    check_shapes((lengths_B.numel(),), lengths=lengths_B)
    if (normalisation == "constant") != (constant_length is not None):
        raise ValueError(
            f'constant_length belongs to "constant", and to no other: got {constant_length} with "{normalisation}"'
        )
    if constant_length is not None and constant_length < 1:
        raise ValueError(f"constant_length must be at least 1, got {constant_length}")
    lengths_B = lengths_B.float()
    batch = float(len(lengths_B))
    match normalisation:
        case "token":
            return lengths_B.sum().clamp(min=1).expand_as(lengths_B)
        case "sequence":
            return batch * lengths_B.clamp(min=1)
        case "constant":
            return torch.full_like(lengths_B, batch * (constant_length or 1))
        case "sum":
            return torch.full_like(lengths_B, batch)


def clipped_surrogate(
    logprobs_BT: Float[Tensor, "B T"],
    old_logprobs_BT: Float[Tensor, "B T"],
    advantages_B: Float[Tensor, "B"],
    mask_BT: Bool[Tensor, "B T"],
    *,
    denominators_B: Float[Tensor, "B"],
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    ratio_level: RatioLevel = "token",
    sampled_logprobs_BT: Float[Tensor, "B T"] | None = None,
    weight_cap: float = 2.0,
    reference_logprobs_BT: Float[Tensor, "B T"] | None = None,
    kl_coefficient: float = 0.0,
    entropies_BT: Float[Tensor, "B T"] | None = None,
    entropy_coefficient: float = 0.0,
) -> Surrogate:
    """Compute the loss of a batch, or of a micro-batch, of written sequences.

    L = Σ_b (1 / denominator_b) [ -Σ_u w_bu ℓ(ρ_bu, A_b) + c_kl Σ_t k3_bt - c_H Σ_t H_bt ] over action tokens, where

    - ρ = exp(logprob - old logprob), of each token, or of the sequence: exp Σ_t (…). A sequence's ℓ stands where the
      sum over its tokens would, so at ρ = 1 both levels have the gradient of REINFORCE; with normalisation "sum" the
      sequence level is RLOO's loss in TRL;
    - w = min(exp(old logprob - sampled logprob), cap), a constant, 1 if there are no sampled log-probabilities. It
      corrects for a sampler that is not the old policy: a temperature, top-k, another engine. One per unit, too;
    - k3 = exp(d) - d - 1 with d = reference logprob - logprob, at least 0, an unbiased estimate of the divergence
      of the policy from the reference when the policy itself wrote the tokens. Neither it nor H is weighted by w.

    Log-ratios, and d, are cut at ±20 (ours) and have no gradient beyond. What stands outside the mask changes nothing,
    be it NaN.

    Args:
        logprobs_BT: of each token under the policy being trained, in nats; the gradient flows here and to entropies.
        old_logprobs_BT: under the policy as it was before the first update from this batch, over the same vocabulary;
            `logprobs_BT.detach()` if there is one update only.
        advantages_B: one per sequence.
        mask_BT: True at tokens that the policy chose.
        denominators_B: the rows of this batch in what `denominators` returned for the whole batch.
        clip_low: the ratio may fall to 1 - clip_low.
        clip_high: the ratio may rise to 1 + clip_high; .28 in DAPO.
        ratio_level: of what ρ and w are ratios.
        sampled_logprobs_BT: under the distribution the tokens were really drawn from.
        weight_cap: bound on w.
        reference_logprobs_BT: under a policy to stay close to.
        kl_coefficient: c_kl; 0 only measures.
        entropies_BT: of the next-token distributions of the policy.
        entropy_coefficient: c_H; 0 only measures.

    Raises:
        ValueError: if shapes differ, a coefficient is not 0 where its tensor is missing, or a bound is out of range.

    Source: `clipped_objective`; R²ec, eq. 8; truncated importance weights: Yao et al. 2025, "Your efficient RL
    framework secretly brings you off-policy RL training"; k3: Schulman 2020, DeepSeekMath eq. 4.
    """
    shape = check_matrix("logprobs", logprobs_BT)
    check_shapes(
        shape,
        old_logprobs=old_logprobs_BT,
        mask=mask_BT,
        sampled_logprobs=sampled_logprobs_BT,
        reference_logprobs=reference_logprobs_BT,
        entropies=entropies_BT,
    )
    check_shapes(shape[:1], advantages=advantages_B, denominators=denominators_B)
    if weight_cap <= 0:
        raise ValueError(f"weight_cap must be positive, got {weight_cap}")
    by_token = ratio_level == "token"
    units_BU = mask_BT if by_token else mask_BT.any(dim=1, keepdim=True)
    old_logprobs_BT = old_logprobs_BT.detach()

    log_ratios_BT = masked_difference(logprobs_BT, old_logprobs_BT, mask_BT)
    ratios_BU = bounded(_per_unit(log_ratios_BT, by_token)).exp()
    advantages_BU = at_least_fp32(advantages_B.detach())[:, None].expand_as(ratios_BU)
    gains_BU = clipped_objective(ratios_BU, advantages_BU, clip_low, clip_high)
    mean_weight = None
    if sampled_logprobs_BT is not None:
        log_weights_BT = masked_difference(old_logprobs_BT, sampled_logprobs_BT.detach(), mask_BT)
        weights_BU = _per_unit(log_weights_BT, by_token).exp().clamp(max=weight_cap)
        gains_BU = gains_BU * weights_BU
        mean_weight = masked_mean(weights_BU, units_BU)
    losses_B = -gains_BU.masked_fill(~units_BU, 0.0).sum(dim=1)

    mean_kl, kl_BT = None, _kl(logprobs_BT, reference_logprobs_BT, mask_BT, kl_coefficient)
    if kl_BT is not None:
        losses_B = losses_B + kl_coefficient * kl_BT.sum(dim=1)
        mean_kl = masked_mean(kl_BT, mask_BT)
    mean_entropy = None
    if entropies_BT is not None:
        entropies_BT = at_least_fp32(entropies_BT).masked_fill(~mask_BT, 0.0)
        losses_B = losses_B - entropy_coefficient * entropies_BT.sum(dim=1)
        mean_entropy = masked_mean(entropies_BT, mask_BT)
    elif entropy_coefficient != 0:
        raise ValueError("an entropy bonus needs entropies_BT")

    return Surrogate(
        loss=(losses_B / denominators_B).sum(),
        clip_share=masked_mean(is_clipped(ratios_BU, advantages_BU, clip_low, clip_high), units_BU),
        mean_ratio=masked_mean(ratios_BU, units_BU),
        mean_weight=mean_weight,
        mean_kl=mean_kl,
        mean_entropy=mean_entropy,
        num_units=units_BU.sum(),
        num_actions=mask_BT.sum(),
    )


def combine_surrogates(parts: Sequence[Surrogate]) -> Surrogate:
    """Combine the losses and statistics of micro-batches into those of the batch; the loss without its gradient.

    Args:
        parts: of micro-batches that were computed with the same options.

    Raises:
        ValueError: if there are none.
    """
    if not parts:
        raise ValueError("there are no micro-batches to combine")

    def mean(name: str, counts: list[Tensor]) -> Tensor:
        sums = [getattr(part, name) * count for part, count in zip(parts, counts, strict=True)]
        return torch.stack(sums).sum() / torch.stack(counts).sum().clamp(min=1)

    units, actions = [part.num_units for part in parts], [part.num_actions for part in parts]
    return Surrogate(
        loss=torch.stack([part.loss.detach() for part in parts]).sum(),
        clip_share=mean("clip_share", units),
        mean_ratio=mean("mean_ratio", units),
        mean_weight=None if parts[0].mean_weight is None else mean("mean_weight", units),
        mean_kl=None if parts[0].mean_kl is None else mean("mean_kl", actions),
        mean_entropy=None if parts[0].mean_entropy is None else mean("mean_entropy", actions),
        num_units=torch.stack(units).sum(),
        num_actions=torch.stack(actions).sum(),
    )


def _per_unit(logs_BT: Tensor, by_token: bool) -> Tensor:
    return logs_BT if by_token else logs_BT.sum(dim=1, keepdim=True)


def _kl(logprobs_BT: Tensor, reference_BT: Tensor | None, mask_BT: Tensor, coefficient: float) -> Tensor | None:
    if reference_BT is None:
        if coefficient != 0:
            raise ValueError("a KL penalty needs reference_logprobs_BT")
        return None
    difference_BT = bounded(masked_difference(reference_BT.detach(), logprobs_BT, mask_BT))
    return difference_BT.exp() - difference_BT - 1
