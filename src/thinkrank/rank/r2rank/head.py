"""From a hidden state to one score.

Shape legend: P pairs, N states, D width.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from thinkrank.rank.r2rank.config import ScoringHeadOptions


class ScoringHead(nn.Module):
    """Score states (that a scoring head exists is the paper's; its form is reconstructed).

    States are standardised first, by the mean and deviation they have in the untrained model: without that a large
    part of every state is the same for all pairs. Their length is then about 1 whatever the width. The last layer
    begins at zero, so an untrained head ties all pairs.

    Args:
        width: D.
        options: its form.
    """

    mean_D: Tensor
    deviation_D: Tensor

    def __init__(self, width: int, options: ScoringHeadOptions) -> None:
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(width))
        self.register_buffer("deviation_D", torch.ones(width))
        inner = [nn.Linear(width, options.width), nn.GELU()] if options.kind == "mlp" else []
        last = nn.Linear(options.width if options.kind == "mlp" else width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*inner, last)

    @property
    def is_prepared(self) -> bool:
        """Tell whether `standardise` was called, on this head or on the one it was loaded from."""
        return bool(self.mean_D.any())

    @torch.no_grad()
    def standardise(self, states_ND: Float[Tensor, "N D"]) -> None:
        """Take the mean of these states, and their deviation from it, as what is subtracted and divided by."""
        self.mean_D.copy_(states_ND.mean(dim=0))
        self.deviation_D.copy_(states_ND.std(dim=0).clamp(min=1e-3))

    def forward(self, states_PD: Float[Tensor, "P D"]) -> Float[Tensor, "P"]:
        """Score each pair, in any unit."""
        shown_PD = (states_PD.float() - self.mean_D) / (self.deviation_D * math.sqrt(states_PD.shape[1]))
        return self.layers(shown_PD)[:, 0]
