"""Latent positions in R²ec: what they are made of, how an answer is read from them, and their losses.

Shape legend: B requests, S an item and the K latent positions behind it, P readouts, N candidate items, D width.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from thinkrank.language import Backbone
from thinkrank.language.latent import LatentPositions
from thinkrank.language.options import LatentOptions
from thinkrank.policy import item_logprobs
from thinkrank.retrieve.r2ec.config import R2ecConfig


def latent_positions(backbone: Backbone, config: R2ecConfig, seed: int = 0) -> LatentPositions | None:
    """Build what the configuration says of latent positions; None for nothing.

    Args:
        backbone: with item tokens, if there are latent positions.
        config: of the model; what is fed back passes through as many numbers as the adapter's updates.
        seed: of their first inputs.
    """
    options = config.latent
    if not options.steps or backbone.items is None:
        return None
    return LatentPositions(
        backbone.items.states_ID,
        options.steps,
        feedback=options.feedback,
        trained=options.trained,
        rank=config.lora.rank,
        seed=seed,
    )


def answered(users_BSD: Float[Tensor, "B S D"], answer: Literal["last", "mean"]) -> Float[Tensor, "B D"]:
    """Choose from which steps an answer is read; scores are linear in users, so their mean is that of the users."""
    return users_BSD[:, -1] if answer == "last" or users_BSD.shape[1] == 1 else users_BSD[:, 1:].mean(dim=1)


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


def likeness(users_PSD: Float[Tensor, "P S D"]) -> Float[Tensor, "P"]:
    """Return the mean cosine between the latent positions of each place; 0 where there is one alone."""
    steps_PKD = users_PSD[:, 1:]
    steps = steps_PKD.shape[1]
    if steps < 2:
        return users_PSD.new_zeros(len(users_PSD))
    cosines_PKK = steps_PKD @ steps_PKD.transpose(1, 2)
    return (cosines_PKK.sum(dim=(1, 2)) - steps) / (steps * (steps - 1))
