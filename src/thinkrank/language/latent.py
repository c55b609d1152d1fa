"""Positions behind a token that hold no token: more steps of the upper layers before a state is read.

Behind a place stand K positions. Each sees what the token at its place sees, that token, and the positions before it
there; nothing sees them, so the states of a row are the same with and without. Three kinds:

- learned inputs alone, as pause tokens have them (Goyal et al. 2024, arXiv 2310.02226);
- feedback: the input of a step is also what the step before it ended in (Coconut, arXiv 2412.06769; ReaRec, arXiv
  2503.22675), by a map of low rank that is zero at first;
- parallel streams, which do not see each other (PLR, arXiv 2601.03153).

Steps are read one after another, each for all places at once, so K of them cost K more positions per place.

Shape legend: N places, K steps, S the place itself and its steps, R rank, T tokens of a row, D width.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from thinkrank.language.backbone import Backbone
from thinkrank.language.exact import is_exact
from thinkrank.language.item_tokens import read_inputs
from thinkrank.language.options import LatentOptions
from thinkrank.language.packing import Behind, Packing, packed_states

Feedback = Literal["none", "state", "parallel"]

_SCALE = 1 / 60
"""Of a learned number, in norms of an item's state: as for the vectors of items, so that a head's rate suits it."""
_SPREAD = 0.5
"""Norm of a first input's distance from the mean item, in norms of an item's state."""


class LatentPositions(nn.Module):
    """Inputs of latent positions: the mean of other inputs, a vector of each step, and what is fed back.

    Args:
        states_ID: inputs that the layers know, such as items' states at the boundary; these begin near their mean.
        steps: K, at least 1.
        feedback: what steps know of each other.
        trained: whether the vectors learn; otherwise they stay what they were drawn as.
        rank: R of the map that feeds states back.
        seed: of the first vectors.
    """

    base_D: Tensor
    scale: Tensor

    def __init__(
        self,
        states_ID: Float[Tensor, "I D"],
        steps: int,
        *,
        feedback: Feedback = "state",
        trained: bool = True,
        rank: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__()
        width, device = states_ID.shape[1], states_ID.device
        random = torch.Generator().manual_seed(seed)
        self.feedback = feedback
        self.register_buffer("base_D", states_ID.float().mean(dim=0))
        self.register_buffer("scale", states_ID.float().norm(dim=1).mean() * _SCALE)
        first_KD = torch.randn(steps, width, generator=random) * (_SPREAD / _SCALE / math.sqrt(width))
        self.vectors_KD = nn.Parameter(first_KD.to(device), requires_grad=trained)
        down_RD = torch.randn(rank, width, generator=random) / math.sqrt(width)
        self.down_RD = nn.Parameter(down_RD.to(device)) if feedback == "state" else None
        self.up_DR = nn.Parameter(torch.zeros(width, rank, device=device)) if feedback == "state" else None

    @property
    def maps(self) -> list[nn.Parameter]:
        """Return the weights of what is fed back, which learn as an adapter does."""
        return [weight for weight in (self.down_RD, self.up_DR) if weight is not None]

    @property
    def steps(self) -> int:
        """Return K."""
        return len(self.vectors_KD)

    def inputs(self, step: int, before_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """Return what the upper layers read at a step, in fp32.

        Args:
            step: from 0.
            before_ND: states in which the step before it ended, for the first step those of the places.
        """
        inputs_D = self.base_D + self.scale * self.vectors_KD[step]
        if self.down_RD is None or self.up_DR is None:
            return inputs_D.expand(len(before_ND), -1)
        fed_ND = functional.normalize(before_ND, dim=-1) * math.sqrt(before_ND.shape[1])
        return inputs_D + self.scale * (fed_ND @ self.down_RD.T) @ self.up_DR.T


def latent_positions(backbone: Backbone, options: LatentOptions, *, rank: int, seed: int = 0) -> LatentPositions | None:
    """Build what the options say of latent positions; None for nothing.

    Args:
        backbone: where it has item tokens, the positions enter with them behind the lower layers, else as tokens do.
        options: how many, and which.
        rank: of the map that feeds states back.
        seed: of their first inputs.
    """
    if not options.steps:
        return None
    if backbone.items is not None:
        known_ID = backbone.items.states_ID
    else:
        embed = backbone.model.get_input_embeddings()
        known_ID = embed(torch.arange(embed.num_embeddings, device=backbone.device)).detach()
    return LatentPositions(
        known_ID,
        options.steps,
        feedback=options.feedback,
        trained=options.trained,
        rank=rank,
        seed=seed,
    )


def answered(values_NSx: Float[Tensor, "N S *X"], answer: Literal["last", "mean"]) -> Float[Tensor, "N *X"]:
    """Choose from which steps an answer is read: the last one, or the mean of those behind the place itself."""
    return values_NSx[:, -1] if answer == "last" or values_NSx.shape[1] == 1 else values_NSx[:, 1:].mean(dim=1)


def likeness(vectors_NSD: Float[Tensor, "N S D"]) -> Float[Tensor, "N"]:
    """Return the mean cosine between the latent positions of each place, from unit vectors; 0 where there is one."""
    steps_NKD = vectors_NSD[:, 1:]
    steps = steps_NKD.shape[1]
    if steps < 2:
        return vectors_NSD.new_zeros(len(vectors_NSD))
    cosines_NKK = steps_NKD @ steps_NKD.transpose(1, 2)
    return (cosines_NKK.sum(dim=(1, 2)) - steps) / (steps * (steps - 1))


def steps_of(latents: LatentPositions | None) -> int:
    """Count the positions behind a place."""
    return 0 if latents is None else latents.steps


def read_places(
    backbone: Backbone,
    packing: Packing,
    places_N: Int[Tensor, "N"],
    latents: LatentPositions | None,
    *,
    exchanged: bool = False,
) -> Float[Tensor, "N S D"]:
    """Read a row, and the states at some places of it and at the latent positions behind them, differentiably.

    Args:
        backbone: the model.
        packing: of the row; it records where there are.
        places_N: in the row.
        latents: the positions; None for none.
        exchanged: see `behind_places`.
    """
    states_ND = packed_states(backbone, packing)[places_N]
    if latents is None:
        return states_ND[:, None]
    return behind_places(backbone, packing, states_ND, places_N, latents, exchanged=exchanged)


def behind_places(
    backbone: Backbone,
    packing: Packing,
    states_ND: Float[Tensor, "N D"],
    places_N: Int[Tensor, "N"],
    latents: LatentPositions,
    *,
    exchanged: bool = False,
) -> Float[Tensor, "N S D"]:
    """Read on behind places of a row that was just read; the states there come first.

    Args:
        backbone: the model; where it has item tokens, only its upper layers read the positions.
        packing: of the row, which recorded it.
        states_ND: final states at the places.
        places_N: in the row.
        latents: the positions.
        exchanged: let every place be fed the states of the place half of them away, as a control.

    Raises:
        ValueError: if nothing is fed back that could be exchanged, or nobody is there to exchange it with.
    """
    if exchanged and (latents.feedback != "state" or len(places_N) < 2):
        raise ValueError("exchanging what is fed back needs feedback = state and at least two places")
    streams = latents.feedback == "parallel"
    sight = Behind(packing, places_N, sees_steps=not streams)
    order_N = sight.order_N
    back_N = order_N.argsort()
    positions_N = packing.positions_T[places_N[order_N]]
    found = [states_ND]
    for step in range(latents.steps):
        before_ND = found[-1].roll(len(places_N) // 2, dims=0) if exchanged else found[-1]
        positions_1N = (positions_N + (1 if streams else 1 + step))[None]
        with backbone.precision():
            inputs_ND = latents.inputs(step, before_ND[order_N])
            inputs_ND = inputs_ND.to(torch.float32 if is_exact() else backbone.dtype)
            if backbone.items is not None:
                states_1ND = backbone.halves.above(inputs_ND[None], positions_1N, sight).float()
            else:
                states_1ND = read_inputs(backbone.trunk(), positions_1N, sight, inputs_embeds=inputs_ND[None]).float()
        found.append(states_1ND[0, back_N])
    return torch.stack(found, dim=1)
