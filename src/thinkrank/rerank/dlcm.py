"""DLCM: a recurrent network reads the displayed list, and what it makes of it re-weighs every candidate.

Source: Ai, Bi, Guo & Croft 2018, "Learning a deep listwise context model for ranking refinement" (arXiv 1804.05936).
Kept: the list is read from its last place to its first, so that the top is fresh in the state; the local ranking
function; the attention rank loss. Changed: the input is our encoder's vector, not the paper's normalised features with
two dense layers.

Shape legend: B lists, N candidates, A width of the recurrent states, H hidden units of the ranking function.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from thinkrank.rerank.lists import ListBatch, ListEncoder, TrainingBatch
from thinkrank.rerank.losses import attention_weights, softmax_loss
from thinkrank.rerank.network import ListNetwork, NetworkOptions, NetworkReranker


class DLCMOptions(NetworkOptions):
    """Hold the options of `DLCM`."""

    model: Literal["dlcm"] = "dlcm"
    states: int = Field(64, ge=1, description="width of the recurrent states")
    hidden: int = Field(8, ge=1, description="hidden units of the ranking function")


class DLCMNetwork(ListNetwork):
    """Score candidates by V · (o_i · tanh(W s + b)), o_i being the state after reading candidate i, s the last one."""

    def __init__(self, encoder: ListEncoder, options: DLCMOptions) -> None:
        super().__init__(encoder)
        self.hidden = options.hidden
        self.reader = nn.GRU(2 * encoder.options.width, options.states, batch_first=True)
        self.local = nn.Linear(options.states, options.states * options.hidden)
        self.out = nn.Linear(options.hidden, 1, bias=False)

    def scores(self, batch: ListBatch) -> Float[Tensor, "B N"]:
        """Apply the local ranking function to every candidate."""
        backwards_BN = backwards(batch.mask_BN)
        joint_BND = self.joint(batch)
        turned_BND = joint_BND.gather(1, backwards_BN[:, :, None].expand_as(joint_BND))
        states_BNA, _ = self.reader(turned_BND)
        last_B = batch.mask_BN.sum(dim=1) - 1
        final_BA = states_BNA[torch.arange(len(batch), device=last_B.device), last_B]
        outputs_BNA = states_BNA.gather(1, backwards_BN[:, :, None].expand_as(states_BNA))
        weights_BAH = torch.tanh(self.local(final_BA)).unflatten(1, (-1, self.hidden))
        return self.out(outputs_BNA @ weights_BAH)[:, :, 0]

    def loss(self, batch: TrainingBatch) -> Float[Tensor, ""]:
        """Return the attention rank loss."""
        return softmax_loss(self.scores(batch), attention_weights(batch.feedback_BN), batch.mask_BN)


def backwards(mask_BN: Bool[Tensor, "B N"]) -> Tensor:
    """Say where to find each place of the reversed lists, padding left where it is; its own inverse."""
    places_N = torch.arange(mask_BN.shape[1], device=mask_BN.device)
    return torch.where(mask_BN, mask_BN.sum(dim=1, keepdim=True) - 1 - places_N, places_N)


class DLCM(NetworkReranker[DLCMOptions]):
    """Re-rank with the deep listwise context model; see the head of the file."""

    kind = "dlcm"
    config_class = DLCMOptions
    network_class = DLCMNetwork
