"""From hidden states to scores over the catalogue.

Shape legend: B users, I items of the catalogue, N items of some subset, S an item and the K latent positions behind it,
D width.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from thinkrank.retrieve.r2ec.config import HeadOptions


class RetrievalHead(nn.Module):
    """Head that scores items by the cosine between user and item vectors, divided by a temperature.

    The paper's head has no parameters: both states are L2-normalised, the temperature is fixed (section 3.1; the value
    .02 is the released code's). Three additions are ours and can be switched off:

    - centring: the untrained model's mean state is subtracted, which undoes most of the anisotropy that makes all texts
      look alike. Items, closings and line ends each have a mean of their own: on SmolLM2 the means of closings and line
      ends lie almost three times as far apart as the states of either kind scatter;
    - a bias per item, which begins at its log share of the training events. What it adds is popularity and not the
      language model's merit, so a table that shows one should show the arm without it, or popularity alone, beside it;
    - a residual per item, added to its normalised text vector. It is zero, and stays so, for items that never occur in
      training, so a new item is scored by its text alone. With `shared_bias` such items have one bias in common, which
      training learns from items that it hides now and then: their own bias would only tell that nobody took them yet.

    Args:
        num_items: size I of the catalogue.
        width: D.
        options: which parts are on.
        steps: K latent positions behind an item, each of which has an origin of its own.
    """

    user_center_D: Tensor
    line_center_D: Tensor
    item_center_D: Tensor
    residual_mask_I1: Tensor
    step_center_KD: Tensor
    hidden_I: Bool[Tensor, "I"] | None = None
    """True for items that are scored as if training had not known them; None for none."""

    def __init__(self, num_items: int, width: int, options: HeadOptions, steps: int = 0) -> None:
        super().__init__()
        if steps:
            self.register_buffer("step_center_KD", torch.zeros(steps, width))
        self.register_buffer("user_center_D", torch.zeros(width))
        self.register_buffer("line_center_D", torch.zeros(width))
        self.register_buffer("item_center_D", torch.zeros(width))
        self.register_buffer("residual_mask_I1", torch.zeros(num_items, 1))
        self.log_temperature = nn.Parameter(
            torch.tensor(math.log(options.temperature)), requires_grad=options.learn_temperature
        )
        self.bias_I = nn.Parameter(torch.zeros(num_items)) if options.item_bias else None
        self.residual_ID = nn.Parameter(torch.zeros(num_items, width)) if options.residual else None
        self.new_bias = nn.Parameter(torch.zeros(())) if options.item_bias and options.shared_bias else None

    def center_on(
        self,
        user_states_ND: Float[Tensor, "N D"],
        is_line_N: Bool[Tensor, "N"],
        item_states_ID: Float[Tensor, "I D"],
    ) -> None:
        """Take the means of these states as origins; a kind of user state that does not occur keeps its old one."""
        for center_D, chosen_N in ((self.user_center_D, ~is_line_N), (self.line_center_D, is_line_N)):
            if bool(chosen_N.any()):
                center_D.copy_(user_states_ND[chosen_N].mean(dim=0))
        self.item_center_D.copy_(item_states_ID.mean(dim=0))

    def center_steps_on(self, states_NKD: Float[Tensor, "N K D"]) -> None:
        """Take the mean of these states at each latent position as its origin."""
        self.step_center_KD.copy_(states_NKD.mean(dim=0))

    @property
    def is_prepared(self) -> bool:
        """Tell whether `prepare` was called, on this head or on the one it was loaded from."""
        return bool(self.residual_mask_I1.any())

    @torch.no_grad()
    def prepare(self, counts_I: Int[Tensor, "I"]) -> None:
        """Fix, from how often each item occurs in training, which items may have a residual and where biases begin.

        The bias begins at log((count + 1) / mean(count + 1)), so it is 0 for an item of average popularity.
        """
        self.residual_mask_I1.copy_((counts_I > 0)[:, None])
        if self.bias_I is not None:
            smoothed_I = counts_I.float() + 1
            self.bias_I.copy_((smoothed_I / smoothed_I.mean()).log())

    @torch.no_grad()
    def grow(self, count: int) -> None:
        """Make room for more items behind the others: scored by their texts alone, without bias or residual."""
        mask_I1 = self.residual_mask_I1
        self.residual_mask_I1 = torch.cat([mask_I1, mask_I1.new_zeros(count, 1)])
        if self.bias_I is not None:
            self.bias_I = nn.Parameter(torch.cat([self.bias_I, self.bias_I.new_zeros(count)]))
        if self.residual_ID is not None:
            more_ND = self.residual_ID.new_zeros(count, self.residual_ID.shape[1])
            self.residual_ID = nn.Parameter(torch.cat([self.residual_ID, more_ND]))

    def user_vectors(
        self, states_BD: Float[Tensor, "B D"], is_line_B: Bool[Tensor, "B"] | None = None
    ) -> Float[Tensor, "B D"]:
        """Turn user states into unit vectors.

        Args:
            states_BD: states of closings, or in training also of line ends.
            is_line_B: which of them stand at the end of a history line; None if all are closings.
        """
        center_BD = self.user_center_D
        if is_line_B is not None:
            center_BD = torch.where(is_line_B[:, None], self.line_center_D, self.user_center_D)
        return functional.normalize(states_BD - center_BD, dim=-1)

    def step_vectors(self, states_NSD: Float[Tensor, "N S D"]) -> Float[Tensor, "N S D"]:
        """Turn the states at items, and at the latent positions behind them, into unit vectors of users."""
        centers = [self.line_center_D[None], *([self.step_center_KD] if states_NSD.shape[1] > 1 else [])]
        return functional.normalize(states_NSD - torch.cat(centers), dim=-1)

    def item_vectors(
        self, states_ND: Float[Tensor, "N D"], items_N: Int[Tensor, "N"] | None = None
    ) -> Float[Tensor, "N D"]:
        """Turn item text states into unit vectors.

        Args:
            states_ND: pooled states of the items' texts.
            items_N: which catalogue rows they are; None for the whole catalogue in order.
        """
        vectors_ND = functional.normalize(states_ND - self.item_center_D, dim=-1)
        if self.residual_ID is None:
            return vectors_ND
        residual_ID = self.residual_ID * self._known_I1()
        residual_ND = residual_ID if items_N is None else residual_ID[items_N]
        return functional.normalize(vectors_ND + residual_ND, dim=-1)

    def scores(
        self,
        users_BD: Float[Tensor, "B D"],
        items_ND: Float[Tensor, "N D"],
        items_N: Int[Tensor, "N"] | None = None,
    ) -> Float[Tensor, "B N"]:
        """Divide cosines by the temperature, and add the bias if there is one.

        Args:
            users_BD: what `user_vectors` returned.
            items_ND: what `item_vectors` returned.
            items_N: which catalogue rows they are; None for the whole catalogue in order.
        """
        scores_BN = users_BD @ items_ND.T / self.log_temperature.exp()
        bias_I = self.biases()
        if bias_I is None:
            return scores_BN
        return scores_BN + (bias_I if items_N is None else bias_I[items_N])

    def biases(self) -> Float[Tensor, "I"] | None:
        """Return what is added to each item's score; None for nothing."""
        if self.bias_I is None or self.new_bias is None:
            return self.bias_I
        return torch.where(self._known_I1()[:, 0] > 0, self.bias_I, self.new_bias)

    def _known_I1(self) -> Float[Tensor, "I 1"]:
        """Return 1 for items that training knows."""
        return self.residual_mask_I1 if self.hidden_I is None else self.residual_mask_I1 * ~self.hidden_I[:, None]
