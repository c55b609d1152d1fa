"""From hidden states to one score.

Shape legend: P pairs, N some, S the end of an answer and the K latent positions behind it, D width, C what the head
is given, D or 2 D.
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
    begins at zero, so an untrained head ties all pairs. With `reads = "both"` the prompt's end stands before the
    answer's, whose weights all begin at zero.

    Args:
        width: D.
        options: its form.
        steps: K latent positions, each standardised by itself.
    """

    mean_D: Tensor
    deviation_D: Tensor
    step_means_KC: Tensor
    step_deviations_KC: Tensor

    def __init__(self, width: int, options: ScoringHeadOptions, steps: int = 0) -> None:
        super().__init__()
        given = 2 * width if options.reads == "both" else width
        self.register_buffer("mean_D", torch.zeros(given))
        self.register_buffer("deviation_D", torch.ones(given))
        if steps:
            self.register_buffer("step_means_KC", torch.zeros(steps, given))
            self.register_buffer("step_deviations_KC", torch.ones(steps, given))
        inner = [nn.Linear(given, options.width), nn.GELU()] if options.kind == "mlp" else []
        last = nn.Linear(options.width if options.kind == "mlp" else given, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*inner, last)
        self.of_prompt = given - width
        if self.of_prompt:
            nn.init.zeros_(self.first.weight[:, self.of_prompt :])

    @property
    def first(self) -> nn.Linear:
        """Return the layer that is given the states."""
        first = self.layers[0]
        assert isinstance(first, nn.Linear)  # noqa: S101 - see __init__
        return first

    @property
    def is_prepared(self) -> bool:
        """Tell whether `standardise` was called, on this head or on the one it was loaded from."""
        return bool(self.mean_D.any())

    @torch.no_grad()
    def standardise(self, states_NSC: Float[Tensor, "N S C"]) -> None:
        """Take the mean of these states, and their deviation from it, as what is subtracted and divided by."""
        means_SC, deviations_SC = states_NSC.mean(dim=0), states_NSC.std(dim=0).clamp(min=1e-3)
        self.mean_D.copy_(means_SC[0])
        self.deviation_D.copy_(deviations_SC[0])
        if len(means_SC) > 1:
            self.step_means_KC.copy_(means_SC[1:])
            self.step_deviations_KC.copy_(deviations_SC[1:])

    def standardised(self, states_PSC: Float[Tensor, "P S C"]) -> Float[Tensor, "P S C"]:
        """Subtract the means and divide by the deviations."""
        means_SC, deviations_SC = self.mean_D[None], self.deviation_D[None]
        if states_PSC.shape[1] > 1:
            means_SC = torch.cat([means_SC, self.step_means_KC])
            deviations_SC = torch.cat([deviations_SC, self.step_deviations_KC])
        return (states_PSC.float() - means_SC) / (deviations_SC * math.sqrt(states_PSC.shape[2]))

    def forward(self, states_PSC: Float[Tensor, "P S C"]) -> Float[Tensor, "P S"]:
        """Score each pair at each step, in any unit."""
        return self.layers(self.standardised(states_PSC))[..., 0]

    def forget_answers(self) -> None:
        """Drop the gradient of the weights that read anything but the prompt's end."""
        if self.of_prompt and self.first.weight.grad is not None:
            self.first.weight.grad[:, self.of_prompt :] = 0
