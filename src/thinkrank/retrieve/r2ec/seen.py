"""Which items do not compete because they were taken before, as places and not as a matrix of all items.

Shape legend: P rows, K places of all rows together, N competing items, M distinct ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """Hold the items that each of several rows must leave out.

    Attributes:
        rows_K: the row that leaves out the item of this place.
        items_K: the catalogue row that it leaves out; one that is named twice is left out once.
        num_rows: of all rows, those that leave out nothing as well.
    """

    rows_K: Int[Tensor, "K"]
    items_K: Int[Tensor, "K"]
    num_rows: int

    @classmethod
    def of(cls, taken: Sequence[np.ndarray]) -> "Seen":
        """Gather the items of each row."""
        rows_K = np.repeat(np.arange(len(taken)), [len(items) for items in taken])
        items_K = np.concatenate([np.empty(0, np.int64), *taken]).astype(np.int64)
        return cls(torch.from_numpy(rows_K), torch.from_numpy(items_K), len(taken))

    @classmethod
    def nothing(cls, num_rows: int) -> "Seen":
        """Leave out nothing."""
        return cls.of([np.empty(0, np.int64)] * num_rows)

    def among(
        self, items_N: Int[Tensor, "N"] | None, num_items: int, device: torch.device | str = "cpu"
    ) -> Bool[Tensor, "P N"]:
        """Mark what is left out among the items that compete; memory grows with these alone.

        Args:
            items_N: catalogue rows in any order, perhaps repeated; None for the whole catalogue in order.
            num_items: of the catalogue.
            device: of the answer.
        """
        rows_K, items_K = self.rows_K.to(device), self.items_K.to(device)
        if items_N is None:
            mask_PN = torch.zeros(self.num_rows, num_items, dtype=torch.bool, device=device)
            mask_PN[rows_K, items_K] = True
            return mask_PN
        distinct_M, columns_N = items_N.long().to(device).unique(return_inverse=True)
        there_K = torch.isin(items_K, distinct_M)
        mask_PM = torch.zeros(self.num_rows, len(distinct_M), dtype=torch.bool, device=device)
        mask_PM[rows_K[there_K], torch.searchsorted(distinct_M, items_K[there_K])] = True
        return mask_PM[:, columns_N]
