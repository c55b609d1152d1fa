"""What a generator is: four functions, on contexts and states that have one row per list being written.

Shape legend: B requests, R lists being written (rows), A some of these rows, N candidates, E width of joint embeddings,
D width of tokens and states.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from thinkrank.rerank.eglr.attention import SetBlock
from thinkrank.rerank.eglr.config import GeneratorOptions

RowsT = TypeVar("RowsT", bound="Rows")


@dataclass(frozen=True)
class Rows:
    """Hold tensors, tuples of tensors, or further `Rows`, whose first dimension is the row.

    Contexts and states derive from it, so that what a row knows can be picked out and put back.
    """

    def take(self: RowsT, index_A: Int[Tensor, "A"]) -> RowsT:
        """Copy some rows, in this order; an index may repeat."""
        return self._each(lambda mine, _: _take(mine, index_A), self)

    def put(self: RowsT, index_A: Int[Tensor, "A"], part: RowsT) -> RowsT:
        """Replace some rows; in place where no gradient is recorded, so nothing else may share their memory."""
        return self._each(lambda mine, new: _put(mine, index_A, new), part)

    def _each(self: RowsT, function: Callable[[Any, Any], Any], other: RowsT) -> RowsT:
        """Apply a function to everything that has rows and its counterpart in the other."""
        if "__dataclass_fields__" not in type(self).__dict__:  # it would have its parent's fields only
            raise TypeError(f"{type(self).__name__} must be a dataclass, so that its tensors are known")
        changed: dict[str, Any] = {}
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, tuple):
                changed[field.name] = tuple(function(*pair) for pair in zip(mine, theirs, strict=True))
            else:
                changed[field.name] = function(mine, theirs)
        return replace(self, **changed)


def _take(mine: Rows | Tensor, index_A: Tensor) -> Rows | Tensor:
    return mine.take(index_A) if isinstance(mine, Rows) else mine.index_select(0, index_A)


def _put(mine: Rows | Tensor, index_A: Tensor, new: Any) -> Rows | Tensor:
    if isinstance(mine, Rows):
        return mine.put(index_A, new)
    return mine.index_copy(0, index_A, new) if torch.is_grad_enabled() else mine.index_copy_(0, index_A, new)


@dataclass(frozen=True)
class Context(Rows):
    """Hold what is known of the candidates before anything is chosen.

    Attributes:
        tokens_RND: what each candidate looks like to `step`; a reasoning token is a mixture of these.
        mask_RN: True where there is a candidate.
    """

    tokens_RND: Float[Tensor, "R N D"]
    mask_RN: Bool[Tensor, "R N"]


@dataclass(frozen=True)
class PointerContext(Context):
    """Hold candidates, and what states are compared with, projected once.

    Attributes:
        keys_RNP: of any width P.
    """

    keys_RNP: Float[Tensor, "R N P"]


@dataclass(frozen=True)
class Hidden(Rows):
    """Hold a state that is one vector per row."""

    hidden_RD: Float[Tensor, "R D"]


class Slot(NamedTuple):
    """Say where a token stands.

    Attributes:
        place: in the list, from 0. The thoughts before an item stand at its place.
        thought: how many thoughts precede this one at its place; None for an item.
    """

    place: int
    thought: int | None


@runtime_checkable
class Generator(Protocol):
    """Write lists by four functions, by which a generator is known.

    What it remembers derives from `Context` and `Rows`. A generator whose states have an attribute `hidden_RD` can also
    think in tokens of the kind "last_state".
    """

    def encode(self, joint_BNE: Float[Tensor, "B N E"], mask_BN: Bool[Tensor, "B N"]) -> Any:
        """Read the candidates, once per request, and return a `Context`. Padding must not change anything else."""
        ...

    def init_state(self, context: Any) -> Any:
        """Return the state before the first token, a `Rows`."""
        ...

    def step(self, context: Any, state: Any, tokens_RD: Float[Tensor, "R D"], slot: Slot) -> Any:
        """Consume one token per row, an item's or a thought's. Without gradient the old state may be overwritten."""
        ...

    def logits(self, context: Any, state: Any) -> Float[Tensor, "R N"]:
        """Score every candidate; those that were chosen, and padding, are masked by the caller."""
        ...


class CandidateEncoder(nn.Module):
    """Turn joint embeddings into tokens: an MLP each, then attention among them. Their order is not seen."""

    def __init__(self, input_width: int, options: GeneratorOptions) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(input_width, options.encoder_width),
            nn.ReLU(),
            nn.Dropout(options.dropout),
            nn.Linear(options.encoder_width, options.width),
        )
        self.blocks = nn.ModuleList(
            SetBlock(options.width, options.heads, options.dropout) for _ in range(options.set_blocks)
        )
        self.norm = nn.LayerNorm(options.width)

    def forward(self, joint_BNE: Float[Tensor, "B N E"], mask_BN: Bool[Tensor, "B N"]) -> Float[Tensor, "B N D"]:
        """Return tokens of all candidates; 0 for padding."""
        tokens_BND = self.mlp(joint_BNE)
        for block in self.blocks:
            tokens_BND = block(tokens_BND, mask_BN)
        return self.norm(tokens_BND).masked_fill(~mask_BN[:, :, None], 0.0)


def mean_token(tokens_RND: Float[Tensor, "R N D"], among_RN: Bool[Tensor, "R N"]) -> Float[Tensor, "R D"]:
    """Average the tokens that are True in `among_RN`; 0 where none is."""
    among_RN = among_RN.to(tokens_RND.dtype)
    return (among_RN[:, None] @ tokens_RND)[:, 0] / among_RN.sum(dim=1, keepdim=True).clamp(min=1)
