"""A causal Transformer that remembers the keys and values of what it consumed.

Rows think at different places, so they consume different numbers of tokens. Each row fills its memory from the left
without gaps, and a token's code is that of its place in the list. A row's result therefore does not depend on what
other rows did.

Shape legend: B requests, R rows, N candidates, E width of joint embeddings, D width of tokens, M memory, H heads,
W width of one head.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from thinkrank.rerank.eglr.attention import Attention, FeedForward, sinusoid
from thinkrank.rerank.eglr.config import GeneratorOptions
from thinkrank.rerank.eglr.generators.base import CandidateEncoder, PointerContext, Rows, Slot

Memories = tuple[Float[Tensor, "R M H W"], ...]
"""One tensor for each block."""


@dataclass(frozen=True)
class AttendedContext(PointerContext):
    """Hold candidates with what each block's cross-attention reads of them."""

    cross_keys: Memories
    cross_values: Memories


@dataclass(frozen=True)
class Remembered(Rows):
    """Hold what a row consumed, and what came of it.

    Attributes:
        hidden_RD: output behind the newest token.
        lengths_R: tokens consumed, the start included.
        keys: of the self-attention; what stands beyond `lengths_R` is not read.
        values: beside the keys.
    """

    hidden_RD: Float[Tensor, "R D"]
    lengths_R: Int[Tensor, "R"]
    keys: Memories
    values: Memories

    def put(self, index_A: Int[Tensor, "A"], part: "Remembered") -> "Remembered":
        """Replace some rows by ones that may have consumed more."""
        width = part.keys[0].shape[1]
        keys, values = (tuple(_wide(one, width) for one in of) for of in (self.keys, self.values))
        return super(Remembered, replace(self, keys=keys, values=values)).put(index_A, part)


class DecoderBlock(nn.Module):
    """Read the past, read the candidates, feed forward; each normalised first."""

    def __init__(self, options: GeneratorOptions) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(options.width)
        self.self_attention = Attention(options.width, options.heads)
        self.cross_norm = nn.LayerNorm(options.width)
        self.cross_attention = Attention(options.width, options.heads)
        self.feed_forward = FeedForward(options.width, dropout=0.0)


class TransformerPointer(nn.Module):
    """Decode causally what was chosen and thought, reading all candidates; z_i = (Q s)ᵀ K E_i / √P.

    Source: reconstructed.
    """

    def __init__(self, input_width: int, options: GeneratorOptions) -> None:
        super().__init__()
        self.encoder = CandidateEncoder(input_width, options)
        self.start_D = nn.Parameter(torch.randn(options.width) / math.sqrt(options.width))
        self.blocks = nn.ModuleList(DecoderBlock(options) for _ in range(options.decoder_blocks))
        self.norm = nn.LayerNorm(options.width)
        self.keys = nn.Linear(options.width, options.pointer_width, bias=False)
        self.query = nn.Linear(options.width, options.pointer_width)

    @property
    def decoder(self) -> Iterator[DecoderBlock]:
        """Return the blocks, by their type."""
        return cast(Iterator[DecoderBlock], iter(self.blocks))

    def encode(self, joint_BNE: Float[Tensor, "B N E"], mask_BN: Bool[Tensor, "B N"]) -> AttendedContext:
        """Return tokens, their pointer keys, and keys and values for every block."""
        tokens_BND = self.encoder(joint_BNE, mask_BN)
        crossed = [block.cross_attention.remember(tokens_BND) for block in self.decoder]
        keys, values = zip(*crossed, strict=True)
        return AttendedContext(tokens_BND, mask_BN, self.keys(tokens_BND), keys, values)

    def init_state(self, context: AttendedContext) -> Remembered:
        """Return the state behind the start token."""
        start_RD = self.start_D.expand(len(context.mask_RN), -1)
        lengths_R = torch.zeros(len(start_RD), dtype=torch.long, device=start_RD.device)
        empty = tuple(keys[:, :0] for keys in context.cross_keys)
        return self._consume(context, Remembered(start_RD, lengths_R, empty, empty), start_RD)

    def step(
        self, context: AttendedContext, state: Remembered, tokens_RD: Float[Tensor, "R D"], slot: Slot
    ) -> Remembered:
        """Consume one token per row at the code of its place."""
        return self._consume(context, state, tokens_RD + sinusoid(slot.place, tokens_RD.shape[1], like=tokens_RD))

    def logits(self, context: AttendedContext, state: Remembered) -> Float[Tensor, "R N"]:
        """Score every candidate."""
        queries_RP = self.query(state.hidden_RD)
        return (context.keys_RNP @ queries_RP[:, :, None])[:, :, 0] / math.sqrt(queries_RP.shape[1])

    def _consume(self, context: AttendedContext, state: Remembered, tokens_RD: Float[Tensor, "R D"]) -> Remembered:
        lengths_R = state.lengths_R + 1
        longest = int(lengths_R.max())
        read_RM = torch.arange(longest, device=lengths_R.device) < lengths_R[:, None]
        keys, values, hidden_R1D = [], [], tokens_RD[:, None]
        for index, block in enumerate(self.decoder):
            normed_R1D = block.self_norm(hidden_R1D)
            new_keys, new_values = block.self_attention.remember(normed_R1D)
            keys.append(_write(state.keys[index], state.lengths_R, new_keys[:, 0], longest))
            values.append(_write(state.values[index], state.lengths_R, new_values[:, 0], longest))
            hidden_R1D = hidden_R1D + block.self_attention(
                normed_R1D, keys[-1][:, :longest], values[-1][:, :longest], read_RM
            )
            hidden_R1D = hidden_R1D + block.cross_attention(
                block.cross_norm(hidden_R1D), context.cross_keys[index], context.cross_values[index], context.mask_RN
            )
            hidden_R1D = hidden_R1D + block.feed_forward(hidden_R1D)
        return Remembered(self.norm(hidden_R1D[:, 0]), lengths_R, tuple(keys), tuple(values))


def _write(
    memory_RMHW: Float[Tensor, "R M H W"], places_R: Int[Tensor, "R"], new_RHW: Float[Tensor, "R H W"], longest: int
) -> Float[Tensor, "R n H W"]:
    """Replace one entry per row; in place where no gradient is recorded. A memory that is too small is doubled."""
    if memory_RMHW.shape[1] < longest:
        memory_RMHW = _wide(memory_RMHW, 2 * longest)
    width = memory_RMHW.shape[1]
    entries_R = torch.arange(len(places_R), device=places_R.device) * width + places_R
    flat = memory_RMHW.flatten(0, 1)
    flat = (
        flat.index_copy(0, entries_R, new_RHW) if torch.is_grad_enabled() else flat.index_copy_(0, entries_R, new_RHW)
    )
    return flat.unflatten(0, (len(places_R), width))


def _wide(memory_RMHW: Float[Tensor, "R M H W"], width: int) -> Float[Tensor, "R n H W"]:
    """Return the memory with room for at least `width` tokens."""
    return functional.pad(memory_RMHW, (0, 0, 0, 0, 0, max(0, width - memory_RMHW.shape[1])))
