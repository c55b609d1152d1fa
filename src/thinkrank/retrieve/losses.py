"""Contrastive losses over a set of candidate items."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional


def contrastive_loss(
    scores_BN: Float[Tensor, "B N"],
    targets_B: Int[Tensor, "B"],
    excluded_BN: Bool[Tensor, "B N"] | None = None,
) -> Float[Tensor, ""]:
    """Mean cross-entropy of each target against the other candidates.

    L = -(1/B) Σ_b log( exp s_b,t(b) / Σ_{n not excluded} exp s_b,n )

    With the batch's distinct targets as candidates this is InfoNCE with duplicates masked (R²ec, equation of section
    3.2 without the thought); with the whole catalogue it is the full softmax.

    Args:
        scores_BN: scores of N candidates, already divided by the temperature.
        targets_B: column of each row's target.
        excluded_BN: True at candidates that do not compete, such as items the user has seen. A target always competes.

    Raises:
        ValueError: if a target is not a column.
    """
    if targets_B.numel() and int(targets_B.max()) >= scores_BN.shape[1]:
        raise ValueError(f"target column {int(targets_B.max())} is outside the {scores_BN.shape[1]} candidates")
    if excluded_BN is not None:
        is_target_BN = functional.one_hot(targets_B.long(), scores_BN.shape[1]).bool()
        scores_BN = scores_BN.masked_fill(excluded_BN & ~is_target_BN, -torch.inf)
    return functional.cross_entropy(scores_BN, targets_B.long())
