"""What list-wise models are trained with.

Shape legend: B lists, N candidates.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional


def point_loss(
    logits_BN: Float[Tensor, "B N"], feedback_BN: Float[Tensor, "B N"], mask_BN: Bool[Tensor, "B N"]
) -> Float[Tensor, ""]:
    """Return the mean binary cross-entropy of candidates, each for itself, whether it got feedback; in nats."""
    taken_BN = (feedback_BN > 0).to(logits_BN.dtype)
    return functional.binary_cross_entropy_with_logits(logits_BN[mask_BN], taken_BN[mask_BN])


def softmax_loss(
    logits_BN: Float[Tensor, "B N"], weights_BN: Float[Tensor, "B N"], mask_BN: Bool[Tensor, "B N"]
) -> Float[Tensor, ""]:
    """Return the cross-entropy within lists: L = -mean_b Σ_i w_i log( e^{s_i} / Σ_j e^{s_j} ), in nats.

    The mean is over lists with any weight; 0 if there is none.

    Args:
        logits_BN: s.
        weights_BN: w, 0 or above: feedback itself (ListNet's top-one loss for a click), or `attention_weights`.
        mask_BN: False for padding, which is neither i nor j.
    """
    logprobs_BN = logits_BN.masked_fill(~mask_BN, -torch.inf).log_softmax(dim=1).masked_fill(~mask_BN, 0.0)
    lists = (weights_BN > 0).any(dim=1).sum().clamp(min=1)
    return -(weights_BN * mask_BN * logprobs_BN).sum() / lists


def attention_weights(feedback_BN: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """Return the attention that a list's feedback y asks for: a_i = ψ(y_i) / Σ_j ψ(y_j), ψ(y) = e^y if y > 0, else 0.

    Zeros for a list without feedback. Source: Ai et al. 2018 (DLCM), section 4.3; SetRank has it from there.
    """
    worth_BN = feedback_BN.exp() * (feedback_BN > 0)
    return worth_BN / worth_BN.sum(dim=1, keepdim=True).clamp(min=1.0)
