"""Answers from several thoughts: the mean of their probabilities.

Shape legend: B requests, G thoughts about each, I items, N some of them, C items of a block, D width, X = G D.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from thinkrank.retrieve.item_table import ItemTable, LeftOut


class Mixture(ItemTable):
    """View of item vectors that compares each with G users at once, who are one person after G thoughts.

    The score of an item is log mean_g p_g + mean_g log Z_g, where p_g = exp(s_g) / Z_g is its probability after thought
    g among all items that are not withdrawn. Its second part is the same for all items and puts the score into the unit
    of a single thought: where all say the same, it is theirs. A query holds the G users behind one another.

    Args:
        vectors: the items.
        count: G.
    """

    def __init__(self, vectors: ItemTable, count: int) -> None:
        super().__init__(vectors.rows_ID, block_rows=max(1, vectors.block_rows // count))
        self.withdrawn_I = vectors.withdrawn_I
        self._vectors, self._count = vectors, count

    @torch.no_grad()
    def scores_of(self, queries_BX: Float[Tensor, "B X"], items_BN: Int[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """Score some items for each query, withdrawn ones too."""
        users_GBD = queries_BX.unflatten(1, (self._count, -1)).transpose(0, 1)
        scores_BGN = torch.stack([self._vectors.scores_of(users_BD, items_BN) for users_BD in users_GBD], dim=1)
        return self._mixed(scores_BGN, self._totals(queries_BX))

    def _totals(self, queries_BX: Float[Tensor, "B X"]) -> Float[Tensor, "B G"]:
        """Return log Z after each thought."""
        users_RD = queries_BX.unflatten(1, (self._count, -1)).flatten(0, 1)
        return self._vectors.log_normaliser(users_RD).view(-1, self._count)

    def _mixed(self, scores_BGC: Float[Tensor, "B G C"], totals_BG: Float[Tensor, "B G"]) -> Float[Tensor, "B C"]:
        mixed_BC = (scores_BGC - totals_BG[:, :, None]).logsumexp(dim=1) - math.log(self._count)
        return mixed_BC + totals_BG.mean(dim=1, keepdim=True)

    def _scored(
        self, queries_BX: Float[Tensor, "B X"], left_out: LeftOut | None
    ) -> Iterator[tuple[slice, Float[Tensor, "B C"]]]:
        totals_BG = self._totals(queries_BX)
        users_RD = queries_BX.unflatten(1, (self._count, -1)).flatten(0, 1)
        for block, scores_RC in self._vectors._scored(users_RD, None):
            scores_BC = self._mixed(scores_RC.unflatten(0, totals_BG.shape), totals_BG)
            if left_out is not None:
                left_out.mask_(scores_BC, block)
            yield block, scores_BC
