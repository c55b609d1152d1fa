"""The vectors that requests are compared with, kept until weights or states change."""

import torch
from torch import Tensor

from thinkrank.retrieve.item_table import ItemTable
from thinkrank.retrieve.r2ec.head import RetrievalHead
from thinkrank.retrieve.search_options import SearchOptions


class UnitVectors:
    """Cache of normalised item vectors, so that no request normalises the catalogue.

    It notices whatever is written into the head or the states: torch counts the versions of tensors.

    Args:
        options: how items are found among them.
    """

    def __init__(self, options: SearchOptions) -> None:
        self._options = options
        self._kept: tuple[list[tuple[Tensor, int]], ItemTable] | None = None

    def of(self, states: ItemTable, head: RetrievalHead) -> ItemTable:
        """Return the head's item vectors of these states, with its biases and its temperature, made only if need be."""
        sources = [states.rows_ID, states.withdrawn_I, *head.parameters(), *head.buffers()]
        made_of = [(source, source._version) for source in sources]
        kept = self._kept
        if kept is None or [*map(_identity, kept[0])] != [*map(_identity, made_of)]:
            self._kept = kept = made_of, _unit_vectors(states, head, self._options)
        return kept[1]


def _identity(source: tuple[Tensor, int]) -> tuple[int, int]:
    return id(source[0]), source[1]


@torch.no_grad()
def _unit_vectors(states: ItemTable, head: RetrievalHead, options: SearchOptions) -> ItemTable:
    if len(states) <= states.block_rows:
        rows_ID = head.item_vectors(states.rows_ID)
    else:
        rows_ID = torch.empty_like(states.rows_ID)
        for block_N in torch.arange(len(states), device=rows_ID.device).split(states.block_rows):
            rows_ID[block_N] = head.item_vectors(states.rows_ID[block_N], block_N)
    bias_I = head.biases()
    bias_I = None if bias_I is None else bias_I.detach().clone()
    divisor = head.log_temperature.detach().exp()
    vectors = ItemTable(rows_ID, bias_I, divisor, block_rows=states.block_rows, options=options)
    vectors.withdrawn_I = states.withdrawn_I
    return vectors
