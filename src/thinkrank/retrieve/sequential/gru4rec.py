"""GRU4Rec: a recurrent network over a user's past, trained as SASRec is.

Kept from the papers (Hidasi et al. 2016, arXiv 1511.06939; Hidasi & Karatzoglou 2018, arXiv 1706.03847): gated
recurrent units whose state predicts the next item, dropout, and one table of embeddings for input and output (their
constrained embedding). Changed: the loss is the cross-entropy against the whole catalogue, or against sampled items
with the correction for how they are drawn, instead of a ranking loss over a batch's other targets; and windows of a
history are read from a fresh state instead of sessions side by side (`thinkrank.retrieve.sequential.trainer`).

Shape legend: B requests (rows), T places, I items, D width.
"""

import math
from typing import Literal

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from thinkrank.retrieve.sequential.model import Sequential, SequentialEncoder, SequentialOptions


class Gru4recOptions(SequentialOptions):
    """Hold the options of `GRU4Rec`: the encoder, and how it is trained."""

    model: Literal["gru4rec"] = "gru4rec"
    blocks: int = Field(1, ge=1, description="recurrent layers")


class RecurrentEncoder(SequentialEncoder):
    """Encoder by gated recurrent units.

    Args:
        num_items: size I of the catalogue.
        options: the shape; training options are not looked at, but for dropout.

    Source: the first paper, section 3. Embeddings begin as normal draws of deviation .02 and enter times the root of
    the width, as in SASRec; the recurrent weights begin as torch draws them (reconstructed).
    """

    def __init__(self, num_items: int, options: Gru4recOptions) -> None:
        super().__init__(num_items, options.width, options.max_length)
        between = options.dropout if options.blocks > 1 else 0.0
        self.gru = nn.GRU(options.width, options.width, options.blocks, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(options.dropout)
        nn.init.normal_(self.items.weight, std=0.02)

    def forward(self, items_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Read items, oldest first. What stands at a later place changes nothing at an earlier one."""
        inputs_BTD = self.items(items_BT) * math.sqrt(self.items.embedding_dim)
        states_BTD, _ = self.gru(self.dropout(inputs_BTD))
        dropped_BTD: Tensor = self.dropout(states_BTD)
        return dropped_BTD


class GRU4Rec(Sequential[Gru4recOptions]):
    """Retriever that reads a history by a recurrent network; see `Sequential`."""

    kind = "gru4rec"
    config_class = Gru4recOptions
    title = "GRU4Rec"

    def new_encoder(self, num_items: int) -> RecurrentEncoder:
        """Build the network with fresh weights."""
        return RecurrentEncoder(num_items, self.config)
