"""Texts of items, read under the present weights; where items are tokens, the lower layers read each text once.

Shape legend: N items, D width.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from thinkrank.errors import ThinkrankError
from thinkrank.language import Backbone, LoraOptions
from thinkrank.language.item_tokens import ItemTokens
from thinkrank.language.packing import Packing
from thinkrank.language.prefix_tree import PrefixTree
from thinkrank.language.reading import read_above, read_all, read_below
from thinkrank.prompts.marks import Mark, num_marks
from thinkrank.prompts.retrieval import Prompts
from thinkrank.training.progress import Progress, no_progress

_MOST_BYTES = 2**30
"""Memory for what the lower layers say of all texts; a larger catalogue is read from its first layer each time."""


_SHOWN_AT_ONCE = 64
"""Texts that are read between two signs of progress."""


class ItemTexts:
    """Read the texts of a catalogue's items.

    Args:
        backbone: the model.
        prompts: how an item's text is written.
    """

    def __init__(self, backbone: Backbone, prompts: Prompts) -> None:
        self._backbone, self._prompts = backbone, prompts
        self._below: dict[int, Float[Tensor, "_ D"]] = {}
        self._bytes = 0

    def read(self, rows: Sequence[int], *, fast: bool = False) -> Float[Tensor, "N D"]:
        """Read the state at the last token of some catalogue rows, without gradient.

        It is read in fp32 unless `fast`. What the lower layers say is part of the model, whoever asks for it first, so
        that half is always read in the weights' own format.
        """
        late = self._backbone.items is not None
        below = self.below(rows) if late else []
        with nullcontext() if fast else self._backbone.exact():
            if late:
                return read_above(self._backbone, below)
            return read_all(self._backbone, [self._prompts.item(row) for row in rows])

    def boundary(self, rows: Sequence[int]) -> Float[Tensor, "N D"]:
        """Read the state at the last token of some catalogue rows, where the lower layers end."""
        width = self._backbone.hidden_size
        return torch.stack([states[-1] for states in self.below(rows)]) if rows else torch.empty(0, width)

    def beginning(self) -> Float[Tensor, "D"]:
        """Read the token that every sequence begins with, in fp32, where the lower layers end."""
        packing = Packing(PrefixTree.rows([self._prompts.beginning]), self._backbone.device)
        with self._backbone.exact(), torch.no_grad():
            below_1TD = self._backbone.halves.below(packing.ids_T[None], packing.positions_T[None], packing)
        return below_1TD[0, 0].float()

    def below(self, rows: Sequence[int]) -> list[Float[Tensor, "_ D"]]:
        """Return what the lower layers say of every token of some rows' texts; kept as far as the memory goes."""
        missing = [row for row in rows if row not in self._below]
        found = dict(
            zip(missing, read_below(self._backbone, [self._prompts.item(row) for row in missing]), strict=True)
        )
        for row, states in found.items():
            self._bytes += states.numel() * states.itemsize
            if self._bytes <= _MOST_BYTES:
                self._below[row] = states
        return [self._below[row] if row in self._below else found[row] for row in rows]


def with_item_tokens(
    backbone: Backbone, prompts: Prompts, lora: LoraOptions, *, progress: Progress = no_progress
) -> tuple[Backbone, ItemTexts]:
    """Return the backbone with a token for each item, made from what its lower layers say of the item's text.

    The texts come with it, since their lower half has been read.

    Args:
        backbone: with an adapter on its upper layers alone.
        prompts: how an item's text is written.
        lora: options of the adapter: its layers are the upper ones.
        progress: shows the texts that are read.

    Raises:
        ThinkrankError: if the adapter is on all layers, or nothing stands at the beginning of the model's sequences.
    """
    if not prompts.beginning:
        raise ThinkrankError(
            "reading = late needs a token that begins every sequence, and this language model has neither one nor a "
            "chat template that begins with words of its own: set model.reading = text"
        )
    num_items = len(prompts.catalogue)
    empty = torch.zeros(num_items, backbone.hidden_size, dtype=backbone.dtype, device=backbone.device)
    texts = ItemTexts(replace(backbone, items=_tokens(backbone, empty, lora)), prompts)
    parts = []
    with progress("reading item texts", num_items) as advance:
        for first in range(0, num_items, _SHOWN_AT_ONCE):
            rows = range(first, min(first + _SHOWN_AT_ONCE, num_items))
            parts.append(texts.boundary(rows))
            advance(len(rows))
    states_ID = torch.cat([empty[:0], *parts])
    return replace(backbone, items=_tokens(backbone, states_ID, lora, num_marks(prompts.options.marks))), texts


def with_kept_item_tokens(
    backbone: Backbone, tensors: Mapping[str, Tensor], lora: LoraOptions, marks: Sequence[Mark] = ()
) -> Backbone:
    """Return the backbone with the item tokens whose `state_dict` this was.

    Raises:
        ThinkrankError: if the adapter is on all layers.
    """
    items = _tokens(backbone, tensors["states_ID"].to(backbone.device), lora, num_marks(marks))
    items.load_state_dict(dict(tensors))
    return replace(backbone, items=items)


def _tokens(backbone: Backbone, states_ID: Float[Tensor, "N D"], lora: LoraOptions, num_marks: int = 1) -> ItemTokens:
    layers = int(backbone.model.config.num_hidden_layers)
    depth = layers - min(lora.top_layers or layers, layers)
    if not depth:
        raise ThinkrankError(
            f"with reading = late some layers must stay below the adapter, and lora.top_layers covers all {layers}: "
            f"set it to {max(1, layers // 3)}"
        )
    first_id = int(backbone.model.config.vocab_size)
    return ItemTokens(states_ID, first_id, depth, dropout=0.0, num_marks=num_marks).eval()
