"""Items as tokens that only the upper layers read.

What the lower layers of a frozen model say of a title is the same in every history, so they read each title once per
catalogue. The state they end in stands for the item wherever it occurs: an item is a token with an id behind the
vocabulary, one position of the upper layers, and nothing in the lower ones. Text beside items sees them above; what it
sees below tells `text_runs`.

Shape legend: I items, N some of them, T tokens, A text tokens among them, D width.
"""

import copy
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from thinkrank.errors import ThinkrankError
from thinkrank.language.exact import is_exact
from thinkrank.language.sight import AttentionPattern

_WHOLE = torch.ones(1, 1, 1, 1, dtype=torch.bool)
"""A mask of four dimensions is taken as it is, and not used."""
_OWN_SCALE = 1 / 60
"""Of a learned vector, in norms of a text state: then the rate that suits an item head suits the vectors too."""
_KEPT_TEXTS = 8192
_SHORT_TEXT = 12
"""Tokens of a run of text, with those before the first item, up to which what the lower layers make of it is kept."""


@runtime_checkable
class MixedPattern(AttentionPattern, Protocol):
    """Attention of tokens of which some are items."""

    def text_below(self, halves: "Halves", first_item: int) -> tuple[Int[Tensor, "A"], Float[Tensor, "A D"]]:
        """Read the text among the tokens, whose ids lie below that of the first item, up to the boundary.

        Returns:
            where the text stands among all tokens, and its states.
        """
        ...


class ItemTokens(nn.Module):
    """Inputs of the upper layers at items: the text's state, and a learned vector that is zero at first.

    An item that was taken in several ways, such as with one rating or another, may carry a mark, which has a learned
    vector of its own. A token tells item and mark.

    Args:
        states_ID: state of each item's text at the boundary, read alone; in the model's own number format.
        first_id: token id of the first item: the size of the vocabulary.
        depth: layers below the boundary.
        dropout: share of an input's numbers that is left out in training.
        num_marks: how many marks there are; mark 0 says nothing.

    Attributes:
        trained_I1: 1 for items that training knows; the others' learned vectors stay zero.
        hidden_I: True for items that are read as if training had not known them; None for none.
    """

    states_ID: Tensor
    trained_I1: Tensor
    scale: Tensor

    def __init__(
        self, states_ID: Float[Tensor, "I D"], first_id: int, depth: int, dropout: float, num_marks: int = 1
    ) -> None:
        super().__init__()
        self.first_id, self.depth, self.dropout, self.num_marks = first_id, depth, dropout, num_marks
        self.hidden_I: Tensor | None = None
        self.register_buffer("states_ID", states_ID)
        self.register_buffer("trained_I1", torch.zeros(len(states_ID), 1, device=states_ID.device))
        self.register_buffer("scale", states_ID.float().norm(dim=1).mean() * _OWN_SCALE)
        self.vectors_ID = nn.Parameter(torch.zeros(states_ID.shape, device=states_ID.device))
        self.marks_MD = (
            nn.Parameter(torch.zeros(num_marks, states_ID.shape[1], device=states_ID.device)) if num_marks > 1 else None
        )

    def ids(self, rows: Sequence[int], marks: Sequence[int] | None = None) -> list[int]:
        """Return the tokens of catalogue rows, each with its mark or with none."""
        marks = [0] * len(rows) if marks is None else marks
        return [self.first_id + row * self.num_marks + mark for row, mark in zip(rows, marks, strict=True)]

    def is_item(self, ids: Int[Tensor, "*T"]) -> Bool[Tensor, "*T"]:
        """Tell which tokens are items."""
        return ids >= self.first_id

    def inputs(self, ids_N: Int[Tensor, "N"]) -> Float[Tensor, "N D"]:
        """Return what the upper layers read at these tokens, in fp32."""
        rows_N = (ids_N - self.first_id).div(self.num_marks, rounding_mode="floor")
        known_I1 = self.trained_I1 if self.hidden_I is None else self.trained_I1 * ~self.hidden_I[:, None]
        vectors_ND = (self.vectors_ID * known_I1)[rows_N]
        if self.marks_MD is not None:
            vectors_ND = vectors_ND + self.marks_MD[(ids_N - self.first_id) % self.num_marks]
        vectors_ND = vectors_ND * self.scale
        return functional.dropout(self.states_ID[rows_N].float() + vectors_ND, self.dropout, self.training)

    def learnt(self) -> dict[str, Tensor]:
        """Return what training changes, as live tensors."""
        learnt = {"vectors_ID": self.vectors_ID, "trained_I1": self.trained_I1}
        return learnt if self.marks_MD is None else {**learnt, "marks_MD": self.marks_MD}

    @torch.no_grad()
    def grow(self, states_ND: Float[Tensor, "N D"]) -> None:
        """Make room for more items behind the others, which stand for their texts alone."""
        more = len(states_ND)
        self.states_ID = torch.cat([self.states_ID, states_ND.to(self.states_ID)])
        self.trained_I1 = torch.cat([self.trained_I1, self.trained_I1.new_zeros(more, 1)])
        self.vectors_ID = nn.Parameter(
            torch.cat([self.vectors_ID, self.vectors_ID.new_zeros(more, self.vectors_ID.shape[1])])
        )


class _Skipped(nn.Module):
    """Layer that is left to the other half."""

    def forward(self, states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return states


class Halves:
    """The two halves of a decoder, which share its weights.

    Args:
        trunk: the decoder without its language head; adapters inside it stay active.
        depth: layers of the lower half.

    Raises:
        ThinkrankError: if it has not more layers than that, or keeps them elsewhere than other decoders.
    """

    def __init__(self, trunk: nn.Module, depth: int) -> None:
        layers = getattr(trunk, "layers", None)
        if not isinstance(layers, nn.ModuleList) or not isinstance(getattr(trunk, "norm", None), nn.Module):
            raise ThinkrankError(f"a {type(trunk).__name__} keeps no `layers` and `norm`, so it cannot be halved")
        if not 0 < depth < len(layers):
            raise ThinkrankError(f"{len(layers)} layers cannot be halved behind layer {depth}")
        rest = len(layers) - depth
        self._lower = _view(trunk, [*layers[:depth], *(_Skipped() for _ in range(rest))], norm=nn.Identity())
        self._upper = _view(trunk, [*(_Skipped() for _ in range(depth)), *layers[depth:]])
        self._kept: dict[tuple[tuple[int, ...], int, bool], Tensor] = {}

    def kept_text(self, ids: tuple[int, ...], last: int) -> Float[Tensor, "T D"] | None:
        """Return what was read of the last tokens of a text, so many, if it is kept."""
        return self._kept.get((ids, last, is_exact()))

    def keep_text(self, ids: tuple[int, ...], states_TD: Float[Tensor, "T D"]) -> None:
        """Keep what was read of the last tokens of a text, if it is short: weights below the boundary stay.

        Nothing is kept while the weights lie in parts in several processes, which must all make the same passes.
        """
        if len(ids) > _SHORT_TEXT or any(hasattr(module, "unshard") for module in self._lower.modules()):
            return
        if len(self._kept) >= _KEPT_TEXTS:  # other threads may read and clear at the same time
            self._kept.clear()
        self._kept[ids, len(states_TD), is_exact()] = states_TD.detach().clone()

    def below(
        self, ids_BT: Int[Tensor, "B T"], positions_BT: Int[Tensor, "B T"], sight: AttentionPattern
    ) -> Float[Tensor, "B T D"]:
        """Read text up to the boundary, in the model's own number format."""
        return read_inputs(self._lower, positions_BT, sight, input_ids=ids_BT)

    def above(
        self, states_BTD: Float[Tensor, "B T D"], positions_BT: Int[Tensor, "B T"], sight: AttentionPattern
    ) -> Float[Tensor, "B T D"]:
        """Read on from the boundary to the final (normed) states."""
        return read_inputs(self._upper, positions_BT, sight, inputs_embeds=states_BTD)


def read_inputs(
    half: nn.Module, positions_BT: Int[Tensor, "B T"], sight: AttentionPattern, **inputs: Tensor
) -> Float[Tensor, "B T D"]:
    """Read ids or their inputs with a decoder, or with a half of one."""
    whole = _WHOLE.to(positions_BT.device)
    states: Tensor = half(
        **inputs, position_ids=positions_BT, attention_mask=whole, use_cache=False, sight=sight
    ).last_hidden_state
    return states


def _view(trunk: nn.Module, layers: Sequence[nn.Module], norm: nn.Module | None = None) -> nn.Module:
    """Return the decoder with other layers and the same everything else; nothing is copied."""
    view = copy.copy(trunk)
    view._modules = {**trunk._modules, "layers": nn.ModuleList(layers)}
    if norm is not None:
        view._modules["norm"] = norm
    return view
