"""SetRank: scores that do not depend on the order in which the candidates come, by induced self-attention.

Source: Pang et al. 2020, "SetRank: learning a permutation-invariant ranking model for information retrieval" (arXiv
1912.05891). Kept: induced multi-head self-attention blocks without places, and the attention rank loss. The paper's
variant with ordinal embeddings of an initial ranking is the default here: `lists.positions` tells candidates their
displayed place. Switch it off for the invariant model.

Shape legend: B lists, N candidates, M induced points, D width.
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from thinkrank.options import heads_divide_the_width
from thinkrank.rerank.lists import ListBatch, ListEncoder, TrainingBatch
from thinkrank.rerank.losses import attention_weights, softmax_loss
from thinkrank.rerank.network import ListNetwork, NetworkOptions, NetworkReranker


class SetRankOptions(NetworkOptions):
    """Hold the options of `SetRank`."""

    model: Literal["setrank"] = "setrank"
    width: int = Field(64, ge=1, description="width of the attention")
    blocks: int = Field(2, ge=1, description="induced attention blocks")
    heads: int = Field(2, ge=1, description="heads of each attention; they must divide the width")
    points: int = Field(8, ge=1, description="induced points that stand between the candidates")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="dropout within the blocks")

    _heads_divide_the_width = heads_divide_the_width()


class AttentionBlock(nn.Module):
    """Compute MAB(Q, K, V = K): B = norm(Q + attention(Q, K)), then norm(B + feed-forward(B))."""

    def __init__(self, options: SetRankOptions) -> None:
        super().__init__()
        width, dropout = options.width, options.dropout
        self.attention = nn.MultiheadAttention(width, options.heads, dropout=dropout, batch_first=True)
        self.forward_layer = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout))
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def forward(
        self,
        queries_BQD: Float[Tensor, "B Q D"],
        keys_BKD: Float[Tensor, "B K D"],
        padding_BK: Bool[Tensor, "B K"] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """Attend from queries to keys; padding (True) is not attended to."""
        attended_BQD, _ = self.attention(
            queries_BQD, keys_BKD, keys_BKD, key_padding_mask=padding_BK, need_weights=False
        )
        middle_BQD = self.norms[0](queries_BQD + attended_BQD)
        return self.norms[1](middle_BQD + self.forward_layer(middle_BQD))


class InducedBlock(nn.Module):
    """Compute IMSAB(X) = MAB(X, MAB(I, X)): M learned points read the list, and the candidates read the points."""

    def __init__(self, options: SetRankOptions) -> None:
        super().__init__()
        self.points_MD = nn.Parameter(torch.randn(options.points, options.width) / options.width**0.5)
        self.gather = AttentionBlock(options)
        self.spread = AttentionBlock(options)

    def forward(self, vectors_BND: Float[Tensor, "B N D"], mask_BN: Bool[Tensor, "B N"]) -> Float[Tensor, "B N D"]:
        """Return every candidate after it has read of the others."""
        points_BMD = self.points_MD.expand(len(vectors_BND), -1, -1)
        return self.spread(vectors_BND, self.gather(points_BMD, vectors_BND, ~mask_BN))


class SetRankNetwork(ListNetwork):
    """Score candidates by induced blocks and one output each."""

    def __init__(self, encoder: ListEncoder, options: SetRankOptions) -> None:
        super().__init__(encoder)
        self.input = nn.Linear(2 * encoder.options.width, options.width)
        self.blocks = nn.ModuleList(InducedBlock(options) for _ in range(options.blocks))
        self.out = nn.Linear(options.width, 1)

    def scores(self, batch: ListBatch) -> Float[Tensor, "B N"]:
        """Score a candidate alike wherever it stands, unless the encoder tells its place."""
        vectors_BND = self.input(self.joint(batch))
        for block in self.blocks:
            vectors_BND = block(vectors_BND, batch.mask_BN)
        return self.out(vectors_BND)[:, :, 0]

    def loss(self, batch: TrainingBatch) -> Float[Tensor, ""]:
        """Return the attention rank loss."""
        return softmax_loss(self.scores(batch), attention_weights(batch.feedback_BN), batch.mask_BN)


class SetRank(NetworkReranker[SetRankOptions]):
    """Re-rank with SetRank; see the head of the file."""

    kind = "setrank"
    config_class = SetRankOptions
    network_class = SetRankNetwork
