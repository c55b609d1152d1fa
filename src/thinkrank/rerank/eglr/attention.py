"""Attention whose keys and values can be kept, and a block of it that does not see order.

Shape legend: R rows, Q queries, M remembered tokens, D width, H heads, W width of one head.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Attend by scaled dot products, with several heads (Vaswani et al. 2017).

    The width is that of queries and of what is remembered; the heads must divide it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.memory = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def remember(self, tokens_RMD: Float[Tensor, "R M D"]) -> tuple[Float[Tensor, "R M H W"], Float[Tensor, "R M H W"]]:
        """Return keys and values of tokens."""
        keys_RMD, values_RMD = self.memory(tokens_RMD).chunk(2, dim=-1)
        return keys_RMD.unflatten(-1, (self.heads, -1)), values_RMD.unflatten(-1, (self.heads, -1))

    def forward(
        self,
        queries_RQD: Float[Tensor, "R Q D"],
        keys_RMHW: Float[Tensor, "R M H W"],
        values_RMHW: Float[Tensor, "R M H W"],
        mask_RM: Bool[Tensor, "R M"],
    ) -> Float[Tensor, "R Q D"]:
        """Return what each query reads; only where the mask is True, which it must be somewhere in every row."""
        queries_RQHW = self.query(queries_RQD).unflatten(-1, (self.heads, -1))
        read_RHQW = functional.scaled_dot_product_attention(
            queries_RQHW.transpose(1, 2),
            keys_RMHW.transpose(1, 2),
            values_RMHW.transpose(1, 2),
            attn_mask=mask_RM[:, None, None],
        )
        return self.out(read_RHQW.transpose(1, 2).flatten(2))


class FeedForward(nn.Sequential):
    """Normalise, widen twofold, rectify, narrow."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )


class SetBlock(nn.Module):
    """Let every token read all of its row, normalised first, and go through a feed-forward layer.

    Dropout is on what both parts add.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.feed_forward = FeedForward(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens_RMD: Float[Tensor, "R M D"], mask_RM: Bool[Tensor, "R M"]) -> Float[Tensor, "R M D"]:
        """Return new tokens; those outside of the mask are read by nobody."""
        normed_RMD = self.norm(tokens_RMD)
        read_RMD = self.attention(normed_RMD, *self.attention.remember(normed_RMD), mask_RM)
        tokens_RMD = tokens_RMD + self.dropout(read_RMD)
        return tokens_RMD + self.dropout(self.feed_forward(tokens_RMD))


def sinusoid(place: int, width: int, *, like: Tensor) -> Float[Tensor, "D"]:
    """Return the fixed code of a place: sines and cosines of wavelengths from 2π to 20,000π (Vaswani et al. 2017)."""
    exponents = torch.arange(0, width, 2, device=like.device, dtype=like.dtype) / width
    angles = place / 10_000.0**exponents
    return torch.stack([angles.sin(), angles.cos()], dim=1).flatten()[:width]
