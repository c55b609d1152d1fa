"""SASRec: self-attention over a user's past, trained by a softmax over the whole catalogue; eSASRec by two options.

Kept from the paper (Kang & McAuley 2018, arXiv 1808.09781, section III): learned positions, causal blocks of attention
and a point-wise feed-forward layer whose normalisation comes first, dropout, and one table of item embeddings for input
and scores. From its released code: a last normalisation, and input embeddings times the root of the width. Changed:

- the loss is the cross-entropy of each next item against the whole catalogue, not against one sampled negative; it is
  what makes SASRec strong (Klenitskiy & Vasilev 2023, arXiv 2309.07602);
- a history longer than `max_length` is cut into windows, at another place in each epoch, and every event trains; the
  paper keeps the newest window only (`thinkrank.retrieve.sequential.trainer`).

`layers = ligr` with `negatives` is eSASRec (Tikhonovich et al. 2025, arXiv 2508.06450): gated layers and a softmax over
sampled items instead of the whole catalogue.

Shape legend: B requests (rows), T places, I items, D width.
"""

import math
from typing import Literal

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from thinkrank.options import heads_divide_the_width
from thinkrank.retrieve.sequential.model import Sequential, SequentialEncoder, SequentialOptions


class SasrecOptions(SequentialOptions):
    """Hold the options of `SASRec`: the encoder, and how it is trained.

    Of the settings tried, the defaults are the best on the validation parts of MovieLens-100K and of Amazon Office in
    time order: NDCG@10 .102 and .132 (one seed). A width of 64 with 50 items and a dropout of .2 has .100 and .120.
    """

    model: Literal["sasrec"] = "sasrec"
    blocks: int = Field(2, ge=1, description="layers of attention and feed-forward")
    heads: int = Field(2, ge=1, description="heads of each attention; they must divide the width")
    norm: Literal["pre", "post"] = Field(
        "pre", description="normalise before each sub-layer, as the paper, or after it; gated layers always before"
    )
    layers: Literal["transformer", "ligr"] = Field(
        "transformer", description="the paper's layers, or gated ones with a wider feed-forward part, as eSASRec has"
    )

    _heads_divide_the_width = heads_divide_the_width()


class GatedLayer(nn.Module):
    """Layer of attention and SwiGLU whose outputs pass a gate, made from what each place held before.

    x <- x + sigmoid(W_1 x) * attention(norm(x));  x <- x + sigmoid(W_2 x) * V_3 (silu(V_1 norm(x)) * V_2 norm(x))

    Args:
        width: D.
        heads: of the attention.
        dropout: of attention and outputs.

    Source: Borisyuk et al. 2025 (LiGR, arXiv 2502.03417), as eSASRec uses it: hidden width 4 D, no bias in V.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.gate1, self.gate2 = nn.Linear(width, width), nn.Linear(width, width)
        self.linear1, self.linear2 = nn.Linear(width, 4 * width, bias=False), nn.Linear(width, 4 * width, bias=False)
        self.linear3 = nn.Linear(4 * width, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Float[Tensor, "B T D"], future_TT: Float[Tensor, "T T"]) -> Float[Tensor, "B T D"]:
        """Read each place and those before it."""
        inner_BTD = self.norm1(x_BTD)
        seen_BTD, _ = self.self_attn(
            inner_BTD, inner_BTD, inner_BTD, attn_mask=future_TT, is_causal=True, need_weights=False
        )
        x_BTD = x_BTD + self.gate1(x_BTD).sigmoid() * self.dropout(seen_BTD)
        inner_BTD = self.norm2(x_BTD)
        wide_BTF = self.dropout(functional.silu(self.linear1(inner_BTD)) * self.linear2(inner_BTD))
        return x_BTD + self.gate2(x_BTD).sigmoid() * self.dropout(self.linear3(wide_BTF))


class GatedLayers(nn.Module):
    """Gated layers, one after the other, and a last normalisation.

    Args:
        options: the shape.
    """

    def __init__(self, options: SasrecOptions) -> None:
        super().__init__()
        blocks = (GatedLayer(options.width, options.heads, options.dropout) for _ in range(options.blocks))
        self.layers, self.norm = nn.ModuleList(blocks), nn.LayerNorm(options.width)

    def forward(
        self, x_BTD: Float[Tensor, "B T D"], mask: Float[Tensor, "T T"], is_causal: bool
    ) -> Float[Tensor, "B T D"]:
        """Read as `nn.TransformerEncoder` does with a causal mask."""
        for layer in self.layers:
            x_BTD = layer(x_BTD, mask)
        return self.norm(x_BTD)


class CausalEncoder(SequentialEncoder):
    """Encoder by causal self-attention.

    Args:
        num_items: size I of the catalogue.
        options: the shape; training options are not looked at, but for dropout.

    Source: the paper, section III; matrices begin as normal draws of deviation .02 (reconstructed).
    """

    def __init__(self, num_items: int, options: SasrecOptions) -> None:
        super().__init__(num_items, options.width, options.max_length)
        self.positions = nn.Embedding(options.max_length, options.width)
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = GatedLayers(options) if options.layers == "ligr" else _transformer(options)
        for parameter in self.parameters():  # the blocks are copies of one; draw each anew
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, items_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Read items, oldest first. What stands at a later place changes nothing at an earlier one."""
        length, width = items_BT.shape[1], self.items.embedding_dim
        inputs_BTD = self.items(items_BT) * math.sqrt(width) + self.positions.weight[:length]
        future_TT = nn.Transformer.generate_square_subsequent_mask(length, device=items_BT.device)
        states_BTD: Tensor = self.blocks(self.dropout(inputs_BTD), mask=future_TT, is_causal=True)
        return states_BTD


class SASRec(Sequential[SasrecOptions]):
    """Retriever that reads a history by causal self-attention; see `Sequential`."""

    kind = "sasrec"
    config_class = SasrecOptions
    title = "SASRec"

    def new_encoder(self, num_items: int) -> CausalEncoder:
        """Build the network with fresh weights."""
        return CausalEncoder(num_items, self.config)


def _transformer(options: SasrecOptions) -> nn.TransformerEncoder:
    block = nn.TransformerEncoderLayer(
        options.width,
        options.heads,
        dim_feedforward=options.width,
        dropout=options.dropout,
        batch_first=True,
        norm_first=options.norm == "pre",
    )
    last = nn.LayerNorm(options.width) if options.norm == "pre" else None
    return nn.TransformerEncoder(block, options.blocks, norm=last, enable_nested_tensor=False)
