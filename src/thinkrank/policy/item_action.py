"""The last action of an episode: choosing an item by its score.

Candidates may be the targets of the batch, with those of other batches behind them (concatenate their scores), or the
whole catalogue.

Shape legend: B trajectories, N candidates.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from thinkrank.policy._checks import at_least_fp32, check_columns, check_matrix, check_shapes
from thinkrank.policy.clipping import bounded, clipped_objective, is_clipped, masked_difference, masked_mean
from thinkrank.policy.surrogate import Surrogate


def locate_targets(
    targets_B: Int[Tensor, "B"], candidates_N: Int[Tensor, "N"]
) -> tuple[Int[Tensor, "B"], Bool[Tensor, "B N"]]:
    """Find each target among candidates that may repeat an item.

    Each item competes once, at its first occurrence: a target that other rows share is never a negative of theirs,
    and no negative counts double. Put candidates that carry a gradient in front of those that do not.

    Args:
        targets_B: id of each trajectory's item.
        candidates_N: id of the item behind each column of scores.

    Returns:
        The column of each target, and True at columns that do not compete; both as `item_logprobs` takes them.

    Raises:
        ValueError: if a target is not among the candidates, or either tensor is not flat.

    Source: R²ec, in-batch softmax; masking duplicates is ours, the released code has them as negatives.
    """
    check_shapes((targets_B.numel(),), targets=targets_B)
    check_shapes((candidates_N.numel(),), candidates=candidates_N)
    is_target_BN = targets_B[:, None] == candidates_N
    found_B = is_target_BN.any(dim=1)
    if not bool(found_B.all()):
        raise ValueError(f"target {int(targets_B[~found_B][0])} is not among the {len(candidates_N)} candidates")
    first_N = (candidates_N[:, None] == candidates_N).int().argmax(dim=1)
    repeated_N = first_N != torch.arange(len(candidates_N), device=candidates_N.device)
    return is_target_BN.int().argmax(dim=1), repeated_N.expand(len(targets_B), -1)


def item_logprobs(
    scores_BN: Float[Tensor, "B N"], columns_B: Int[Tensor, "B"], excluded_BN: Bool[Tensor, "B N"] | None = None
) -> Float[Tensor, "B"]:
    """Compute the log-probability of choosing the target: s_bt - log Σ_{n not excluded} exp s_bn, in nats.

    Args:
        scores_BN: already divided by the temperature.
        columns_B: column of each row's target.
        excluded_BN: True at candidates that do not compete, such as repeated or seen items. A target always competes.

    Raises:
        ValueError: if a target is not a column, or shapes differ.

    Source: R²ec, the probability of its last action (in-batch softmax); over the whole catalogue it is ours.
    """
    shape = check_matrix("scores", scores_BN)
    check_shapes(shape[:1], columns=columns_B)
    check_shapes(shape, excluded=excluded_BN)
    check_columns("columns", columns_B, shape[1])
    scores_BN = at_least_fp32(scores_BN)
    columns_B1 = columns_B.long()[:, None]
    if excluded_BN is not None:
        scores_BN = scores_BN.masked_fill(excluded_BN.scatter(1, columns_B1, False), -torch.inf)
    return scores_BN.log_softmax(dim=1).gather(1, columns_B1)[:, 0]


def item_surrogate(
    logprobs_B: Float[Tensor, "B"],
    old_logprobs_B: Float[Tensor, "B"],
    advantages_B: Float[Tensor, "B"],
    weights_B: Float[Tensor, "B"],
    *,
    num_trajectories: int,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> Surrogate:
    """Compute L = -(1 / N) Σ_b w_b ℓ(ρ_b, A_b), with ρ = exp(logprob - old logprob) of the target item.

    Trajectories of weight 0 have exactly no gradient. Log-ratios are cut as those of tokens are.

    Args:
        logprobs_B: of the target item, from `item_logprobs`; the gradient flows here.
        old_logprobs_B: before the first update from this batch, among the same candidates; `logprobs_B.detach()` if
            there is one update only.
        advantages_B: one per trajectory.
        weights_B: which trajectories train the item head, from `selection_weights`.
        num_trajectories: N of the whole batch, those of weight 0 included, so that micro-batches add up.
        clip_low: the ratio may fall to 1 - clip_low.
        clip_high: the ratio may rise to 1 + clip_high.

    Returns:
        The loss; its statistics are over the trajectories with a weight, each of which is one unit and one action.

    Raises:
        ValueError: if shapes differ, a weight is negative, or num_trajectories is below the number of rows.

    Source: R²ec, eq. 8, its second term; there the mean is over all trajectories, too.
    """
    num_rows = logprobs_B.numel()
    check_shapes(
        (num_rows,), logprobs=logprobs_B, old_logprobs=old_logprobs_B, advantages=advantages_B, weights=weights_B
    )
    if bool((weights_B < 0).any()):
        raise ValueError("weights must not be negative: the sign belongs to the advantage")
    if num_trajectories < max(1, num_rows):
        raise ValueError(
            f"num_trajectories, of the whole batch, must be at least {max(1, num_rows)}, got {num_trajectories}"
        )
    used_B = weights_B > 0
    ratios_B = bounded(masked_difference(logprobs_B, old_logprobs_B.detach(), used_B)).exp()
    advantages_B = at_least_fp32(advantages_B.detach())
    gains_B = clipped_objective(ratios_B, advantages_B, clip_low, clip_high)
    num_used = used_B.sum()
    return Surrogate(
        loss=-(weights_B.detach() * gains_B).sum() / num_trajectories,
        clip_share=masked_mean(is_clipped(ratios_B, advantages_B, clip_low, clip_high), used_B),
        mean_ratio=masked_mean(ratios_B, used_B),
        mean_weight=None,
        mean_kl=None,
        mean_entropy=None,
        num_units=num_used,
        num_actions=num_used,
    )
