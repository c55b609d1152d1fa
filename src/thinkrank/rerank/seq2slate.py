"""Seq2Slate: a pointer network that writes the list item by item, trained by clicks.

Source: Bello et al. 2018, "Seq2Slate: re-ranking and slate optimization with RNNs" (arXiv 1810.02019), the supervised
variant. Kept: an LSTM reads the displayed list, another points at the next item; at every step the cross-entropy with
the clicked items that are left, weighted 1 / log(step + 1); in training the prefix is drawn from the network itself.
Reconstructed: step weights use log2(step + 1), which differs by a constant. Changed: only the first `steps` places are
written; what is left follows in the order of the last logits (long lists would take as long as they are).

Shape legend: B lists, N candidates, D width, T steps.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from thinkrank.rerank.lists import ListBatch, ListEncoder, TrainingBatch
from thinkrank.rerank.network import ListNetwork, NetworkOptions, NetworkReranker


class Seq2SlateOptions(NetworkOptions):
    """Hold the options of `Seq2Slate`."""

    model: Literal["seq2slate"] = "seq2slate"
    states: int = Field(64, ge=1, description="width of both recurrent networks and of the pointer")
    steps: int = Field(10, ge=1, description="places that are written one by one")


class Seq2SlateNetwork(ListNetwork):
    """Point from reader and writer at candidates: u_i = v · tanh(W_1 e_i + W_2 d), softmax over what is left."""

    def __init__(self, encoder: ListEncoder, options: Seq2SlateOptions) -> None:
        super().__init__(encoder)
        inputs, width = 2 * encoder.options.width, options.states
        self.steps = options.steps
        self.reader = nn.LSTM(inputs, width, batch_first=True)
        self.writer = nn.LSTMCell(inputs, width)
        self.go_D = nn.Parameter(torch.zeros(inputs))
        self.candidates = nn.Linear(width, width, bias=False)
        self.state = nn.Linear(width, width)
        self.pointer = nn.Linear(width, 1, bias=False)

    def scores(self, batch: ListBatch) -> Float[Tensor, "B N"]:
        """Rank greedily written places first, the earlier the higher; then what is left, by the last logits."""
        columns_BT, logits_BTN = self.write(batch, sample=False)
        ranks_T = self.steps - torch.arange(columns_BT.shape[1], device=columns_BT.device, dtype=logits_BTN.dtype)
        # A list shorter than the steps repeats its last choice, which keeps the score of the first time.
        return (
            logits_BTN[:, -1]
            .sigmoid()
            .scatter_reduce(1, columns_BT, ranks_T.expand_as(columns_BT), reduce="amax", include_self=True)
        )

    def loss(self, batch: TrainingBatch) -> Float[Tensor, ""]:
        """Return Σ_t w_t (-Σ_i ŷ_i log p_t(i)), ŷ the feedback left, normalised; mean over lists with feedback."""
        columns_BT, logits_BTN = self.write(batch, sample=True)
        left_BTN = left_to_choose(columns_BT, batch.mask_BN)
        # Finite, since a list that is used up has nothing left, and the gradient of infinities is NaN.
        logprobs_BTN = logits_BTN.masked_fill(~left_BTN, -1e9).log_softmax(dim=2)
        wanted_BTN = batch.feedback_BN[:, None] * left_BTN
        wanted_BTN = wanted_BTN / wanted_BTN.sum(dim=2, keepdim=True).clamp(min=1e-6)
        steps_T = torch.arange(1, columns_BT.shape[1] + 1, device=columns_BT.device)
        loss_B = -((wanted_BTN * logprobs_BTN).sum(dim=2) / (steps_T + 1).log2()).sum(dim=1)
        return loss_B.sum() / (batch.feedback_BN > 0).any(dim=1).sum().clamp(min=1)

    def write(self, batch: ListBatch, *, sample: bool) -> tuple[Int[Tensor, "B T"], Float[Tensor, "B T N"]]:
        """Point at one candidate after the other.

        Args:
            batch: the lists.
            sample: draw the items from the softmax, from torch's global generator; else take the likeliest.

        Returns:
            columns of the chosen candidates and the logits at each step, T being the steps or the longest list; a list
            that is used up goes on pointing at its last choice.
        """
        joint_BND = self.joint(batch)
        lengths_B = batch.mask_BN.sum(dim=1)
        read_BND, _ = self.reader(joint_BND)
        rows_B = torch.arange(len(batch), device=lengths_B.device)
        hidden_BD = read_BND[rows_B, lengths_B - 1]
        cell_BD = torch.zeros_like(hidden_BD)
        keys_BND = self.candidates(read_BND)
        left_BN, token_BD = batch.mask_BN, self.go_D.expand(len(batch), -1)
        columns: list[Tensor] = []
        logits: list[Tensor] = []
        for _ in range(min(self.steps, batch.mask_BN.shape[1])):
            hidden_BD, cell_BD = self.writer(token_BD, (hidden_BD, cell_BD))
            logits_BN = self.pointer(torch.tanh(keys_BND + self.state(hidden_BD)[:, None]))[:, :, 0]
            scores_BN = logits_BN.detach().masked_fill(~left_BN, -torch.inf)
            if sample:  # Gumbel: the largest is a draw from the softmax
                scores_BN = scores_BN - torch.empty_like(scores_BN).exponential_().log()
            chosen_B = scores_BN.argmax(dim=1)
            if columns:
                chosen_B = torch.where(left_BN.any(dim=1), chosen_B, columns[-1])
            columns.append(chosen_B)
            logits.append(logits_BN)
            left_BN = left_BN.scatter(1, chosen_B[:, None], value=False)
            token_BD = joint_BND[rows_B, chosen_B]
        return torch.stack(columns, dim=1), torch.stack(logits, dim=1)


def left_to_choose(columns_BT: Int[Tensor, "B T"], mask_BN: Bool[Tensor, "B N"]) -> Bool[Tensor, "B T N"]:
    """Say what could be chosen at each step."""
    num_candidates = mask_BN.shape[1]
    chosen_BTN = nn.functional.one_hot(columns_BT, num_candidates).cumsum(dim=1) > 0
    before_BTN = torch.cat([torch.zeros_like(chosen_BTN[:, :1]), chosen_BTN[:, :-1]], dim=1)
    return mask_BN[:, None] & ~before_BTN


class Seq2Slate(NetworkReranker[Seq2SlateOptions]):
    """Re-rank with the pointer network; see the head of the file."""

    kind = "seq2slate"
    config_class = Seq2SlateOptions
    network_class = Seq2SlateNetwork
