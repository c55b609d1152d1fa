"""PRM: self-attention over the displayed list, with its places and the user's vector in the input.

Source: Pei et al. 2019, "Personalized re-ranking for recommendation" (arXiv 1904.06813). Kept: learned place embeddings
added to the input, Transformer encoder blocks, a softmax over the list and its cross-entropy with the clicks. Changed:
the personalised vector of each pair is our encoder's, trained along, not that of a click model trained before.

Shape legend: B lists, N candidates, D width.
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from thinkrank.options import heads_divide_the_width
from thinkrank.rerank.lists import ListBatch, ListEncoder, TrainingBatch
from thinkrank.rerank.losses import softmax_loss
from thinkrank.rerank.network import ListNetwork, NetworkOptions, NetworkReranker


class PRMOptions(NetworkOptions):
    """Hold the options of `PRM`."""

    model: Literal["prm"] = "prm"
    width: int = Field(64, ge=1, description="width of the attention")
    blocks: int = Field(2, ge=1, description="layers of attention and feed-forward")
    heads: int = Field(2, ge=1, description="heads of each attention; they must divide the width")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="dropout within the blocks")

    _heads_divide_the_width = heads_divide_the_width()


class PRMNetwork(ListNetwork):
    """Score candidates by an input layer, encoder blocks and one output per place."""

    def __init__(self, encoder: ListEncoder, options: PRMOptions) -> None:
        super().__init__(encoder)
        self.input = nn.Linear(2 * encoder.options.width, options.width)
        self.places = nn.Embedding(max(1, encoder.schema.max_candidates), options.width)
        nn.init.normal_(self.places.weight, std=0.02)
        block = nn.TransformerEncoderLayer(
            options.width, options.heads, dim_feedforward=4 * options.width, dropout=options.dropout, batch_first=True
        )
        self.blocks = nn.TransformerEncoder(block, options.blocks, enable_nested_tensor=False)
        self.out = nn.Linear(options.width, 1)

    def scores(self, batch: ListBatch) -> Float[Tensor, "B N"]:
        """Return logits of the softmax over the list; lists longer than any in training share their last place."""
        places_N = torch.arange(batch.mask_BN.shape[1], device=batch.mask_BN.device)
        vectors_BND = self.input(self.joint(batch)) + self.places(places_N.clamp(max=self.places.num_embeddings - 1))
        return self.out(self.blocks(vectors_BND, src_key_padding_mask=~batch.mask_BN))[:, :, 0]

    def loss(self, batch: TrainingBatch) -> Float[Tensor, ""]:
        """Return -Σ_i y_i log P(i | list), mean over lists with feedback."""
        return softmax_loss(self.scores(batch), batch.feedback_BN, batch.mask_BN)


class PRM(NetworkReranker[PRMOptions]):
    """Re-rank with the personalised re-ranking model; see the head of the file."""

    kind = "prm"
    config_class = PRMOptions
    network_class = PRMNetwork
