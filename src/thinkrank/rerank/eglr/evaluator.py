"""The evaluator: what will a user do with this list, place by place?

From the paper (as readers of it report): the evaluator reads, at each place of a list, the embedding of the item joined
with that of the user, and then a sequence model; it is trained before the generator, and its judgement is the reward of
the generator's reinforcement. Reconstructed: which sequence model, the loss, the calibration report, everything else.

- `GRUEvaluator`: a forward GRU, so a place is judged by what stands above it (LibRerank's EGR; the default);
- `TransformerEvaluator`: bidirectional attention, so it is judged by the whole list;
- `FiveChannelEvaluator`: five summaries of a list of fixed length (the author's earlier CMR).

Shape legend: B requests, R lists (rows), N candidates, K places, E width of joint embeddings, D width.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from thinkrank.errors import ThinkrankError
from thinkrank.rerank.eglr.attention import SetBlock, sinusoid
from thinkrank.rerank.eglr.config import EvaluatorOptions, RewardKind
from thinkrank.rerank.lists import ListBatch, ListEncoder
from thinkrank.rerank.lists.encoder import joint_embeddings


class GRUEvaluator(nn.Module):
    """Judge by ŷ_k = σ(MLP([x_k ; h_k])) with h from a forward GRU. Places after the end of a list change nothing."""

    def __init__(self, input_width: int, options: EvaluatorOptions) -> None:
        super().__init__()
        self.gru = nn.GRU(input_width, options.width, batch_first=True)
        self.head = _head(input_width + options.width, options)

    def forward(self, joint_RKE: Float[Tensor, "R K E"], there_RK: Bool[Tensor, "R K"]) -> Float[Tensor, "R K"]:
        """Return logits of a click at each place."""
        states_RKD, _ = self.gru(joint_RKE)
        return self.head(torch.cat([joint_RKE, states_RKD], dim=2))[:, :, 0]


class TransformerEvaluator(nn.Module):
    """Judge by ŷ_k = σ(MLP([x_k ; h_k])) with h from attention in both directions, over vectors with place codes."""

    def __init__(self, input_width: int, options: EvaluatorOptions) -> None:
        super().__init__()
        self.project = nn.Linear(input_width, options.width)
        self.blocks = nn.ModuleList(
            SetBlock(options.width, options.heads, options.dropout) for _ in range(options.blocks)
        )
        self.norm = nn.LayerNorm(options.width)
        self.head = _head(input_width + options.width, options)

    def forward(self, joint_RKE: Float[Tensor, "R K E"], there_RK: Bool[Tensor, "R K"]) -> Float[Tensor, "R K"]:
        """Return logits of a click at each place."""
        states_RKD = self.project(joint_RKE)
        width = states_RKD.shape[2]
        states_RKD = states_RKD + torch.stack(
            [sinusoid(place, width, like=states_RKD) for place in range(states_RKD.shape[1])]
        )
        for block in self.blocks:
            states_RKD = block(states_RKD, there_RK)
        return self.head(torch.cat([joint_RKE, self.norm(states_RKD)], dim=2))[:, :, 0]


class FiveChannelEvaluator(nn.Module):
    """Judge by five summaries of a list, batch-normalised, and one network that gives the logits of all places.

    The channels: the sum of the items; each item through a small layer, one after the other; attention among the items,
    summed; the states of a GRU, summed; all inner products between items. Shorter lists are filled up with zeros.

    Source: reconstructed after the evaluator in the author's public code of CMR and LAST.
    """

    def __init__(self, input_width: int, options: EvaluatorOptions) -> None:
        super().__init__()
        self.length = options.length
        self.project = nn.Linear(input_width, options.width)
        self.each = nn.Linear(input_width, 16)
        self.attention = SetBlock(options.width, options.heads, options.dropout)
        self.gru = nn.GRU(input_width, options.width, batch_first=True)
        inputs = input_width + 16 * options.length + 2 * options.width + options.length**2
        layers: list[nn.Module] = [nn.BatchNorm1d(inputs)]
        for width in (512, 256, 128):
            layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(options.dropout)]
            inputs = width
        self.head = nn.Sequential(*layers, nn.Linear(inputs, options.length))

    def forward(self, joint_RKE: Float[Tensor, "R K E"], there_RK: Bool[Tensor, "R K"]) -> Float[Tensor, "R K"]:
        """Return logits of a click at each place.

        Raises:
            ThinkrankError: if the lists have more places than it reads.
        """
        places = joint_RKE.shape[1]
        if places > self.length:
            raise ThinkrankError(
                f"the evaluator reads {self.length} places, the lists have {places}: "
                "raise evaluator.length and train it anew, or use another kind"
            )
        missing = self.length - places
        there_RK = functional.pad(there_RK, (0, missing))
        joint_RKE = functional.pad(joint_RKE, (0, 0, 0, missing)) * there_RK[:, :, None]
        projected_RKD = self.project(joint_RKE)
        readable_RK = there_RK | ~there_RK.any(dim=1, keepdim=True)  # a row must have something to attend to
        channels = [
            joint_RKE.sum(dim=1),
            (self.each(joint_RKE) * there_RK[:, :, None]).flatten(1),
            (self.attention(projected_RKD, readable_RK) * there_RK[:, :, None]).sum(dim=1),
            (self.gru(joint_RKE)[0] * there_RK[:, :, None]).sum(dim=1),
            (projected_RKD @ projected_RKD.transpose(1, 2)).flatten(1) / projected_RKD.shape[2],
        ]
        return self.head(torch.cat(channels, dim=1))[:, :places]


_KINDS = {"gru": GRUEvaluator, "transformer": TransformerEvaluator, "five_channel": FiveChannelEvaluator}


class Evaluator(nn.Module):
    """Judge orders of lists, with an encoder that no other model shares and a sequence model.

    Args:
        encoder: what is known of items and users. It should not tell displayed places (see `EvaluatorOptions.lists`).
        options: the sequence model.
    """

    def __init__(self, encoder: ListEncoder, options: EvaluatorOptions) -> None:
        super().__init__()
        self.encoder = encoder
        self.judge = _KINDS[options.kind](2 * encoder.options.width, options)

    def joint(self, batch: ListBatch) -> Float[Tensor, "B N E"]:
        """Return joint embeddings of all candidates; computed once for any number of lists of them."""
        return joint_embeddings(self.encoder, batch)

    def forward(self, joint_BNE: Float[Tensor, "B N E"], columns_RK: Int[Tensor, "R K"]) -> Float[Tensor, "R K"]:
        """Return logits of a click at each place of some lists; what stands where a list has ended has no meaning.

        Args:
            joint_BNE: of the requests.
            columns_RK: candidates in order, -1 where a list has ended; R / B lists of each request, one after another.
        """
        per_request = len(columns_RK) // len(joint_BNE)
        there_RK = columns_RK >= 0
        first_R1 = (torch.arange(len(columns_RK), device=columns_RK.device) // per_request)[:, None] * joint_BNE.shape[
            1
        ]
        rows_RK = first_R1 + columns_RK.clamp(min=0)
        joint_RKE = joint_BNE.flatten(0, 1).index_select(0, rows_RK.flatten()).unflatten(0, rows_RK.shape)
        return self.judge(joint_RKE, there_RK)

    @torch.no_grad()
    def probabilities(self, joint_BNE: Float[Tensor, "B N E"], columns_RK: Int[Tensor, "R K"]) -> Float[Tensor, "R K"]:
        """Return click probabilities at each place, without gradient; 0 where a list has ended."""
        return self(joint_BNE, columns_RK).sigmoid().masked_fill(columns_RK < 0, 0.0)

    def rewards(
        self, joint_BNE: Float[Tensor, "B N E"], columns_RK: Int[Tensor, "R K"], kind: RewardKind
    ) -> Float[Tensor, "R K"]:
        """Return what each place adds to the worth of its list, without gradient; see `place_rewards`."""
        probabilities_RK = self.probabilities(joint_BNE, columns_RK)
        return place_rewards(probabilities_RK, kind, (columns_RK >= 0).sum(dim=1))

    def freeze(self) -> "Evaluator":
        """Switch dropout and gradients off, for good; returns itself."""
        self.eval()
        return self.requires_grad_(False)


def place_rewards(
    probabilities_RK: Float[Tensor, "R K"], kind: RewardKind, lengths_R: Int[Tensor, "R"]
) -> Float[Tensor, "R K"]:
    """Return what each place adds to the worth of its list; the worth is their sum.

    Args:
        probabilities_RK: of a click, 0 where a list has ended.
        kind: "mean": ŷ_k / length, "sum": ŷ_k, "discounted": ŷ_k / log2(k + 1), places from 1. With lists of equal
            length mean and sum give the same advantages.
        lengths_R: places of each list.

    Source: reconstructed; mean and sum after the author's earlier code (EVA_AVE, EVA_SUM), the discount after the
    public code of GoalRank.
    """
    match kind:
        case "mean":
            return probabilities_RK / lengths_R.clamp(min=1)[:, None]
        case "sum":
            return probabilities_RK
        case "discounted":
            places_K = torch.arange(probabilities_RK.shape[1], device=probabilities_RK.device)
            return probabilities_RK / (places_K + 2.0).log2()


def click_loss(
    logits_RK: Float[Tensor, "R K"], clicked_RK: Bool[Tensor, "R K"], there_RK: Bool[Tensor, "R K"]
) -> Float[Tensor, ""]:
    """Return the mean binary cross-entropy over the places that exist, in nats.

    L = -mean_{(r,k) there} [ c log ŷ + (1 - c) log(1 - ŷ) ]
    """
    return functional.binary_cross_entropy_with_logits(logits_RK[there_RK], clicked_RK[there_RK].to(logits_RK.dtype))


def _head(inputs: int, options: EvaluatorOptions) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, options.width), nn.ReLU(), nn.Dropout(options.dropout), nn.Linear(options.width, 1)
    )
