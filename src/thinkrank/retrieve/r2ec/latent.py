"""The losses of an item and of the latent positions behind it.

Shape legend: P readouts, S an item and the K latent positions behind it, N candidate items.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from thinkrank.language.options import LatentOptions
from thinkrank.policy import item_logprobs


def step_losses(
    scores_PSN: Float[Tensor, "P S N"],
    targets_P: Int[Tensor, "P"],
    seen_PN: Bool[Tensor, "P N"],
    options: LatentOptions,
) -> Float[Tensor, "P"]:
    """Weigh the cross-entropies of the item and of each latent position behind it (deep supervision).

    The scores of step s of K are divided by c^(K - s) for a sharpening c, so that early steps may be vague (ReaRec's
    progressive temperatures, arXiv 2503.22675, section 3.4).

    Args:
        scores_PSN: of the candidates, at each step.
        targets_P: the column each readout must predict.
        seen_PN: what does not compete.
        options: weights and sharpening.
    """
    losses = [
        -weight * item_logprobs(scores_PN / softening, targets_P, seen_PN)
        for weight, softening, scores_PN in zip(
            options.weights(), options.softenings(), scores_PSN.unbind(dim=1), strict=True
        )
    ]
    return torch.stack(losses).sum(dim=0)
