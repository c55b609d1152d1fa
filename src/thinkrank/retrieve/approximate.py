"""Indexes of faiss over a table of items, which find most of the best without comparing all (extra `ann`).

Shape legend: B queries, I items, K answers, W items looked up for a query, D width.
"""

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from thinkrank.errors import ThinkrankError
from thinkrank.retrieve.search_options import SearchOptions

if TYPE_CHECKING:
    from thinkrank.retrieve.item_table import Exclude, ItemTable

_ROWS_AT_ONCE = 65_536
_POINTS_PER_LIST = 64
"""Items by which the middle of a list is found; faiss warns below 39."""


class Index:
    """Find items of a table with faiss; scores are the table's own.

    Biases are one more number of each vector, by which the inner product adds them. Items that are withdrawn are not in
    the index. It holds fp32 copies of the vectors as they were when it was made.

    Args:
        table: the items.
        options: which index, and its sizes.

    Raises:
        ThinkrankError: if faiss is not installed.
    """

    def __init__(self, table: "ItemTable", options: SearchOptions) -> None:
        self.table, self.options, self.made_of = table, options, sources(table)
        self._held = (table.rows_ID, table.bias_I, table.withdrawn_I)  # or another tensor could get the id of one
        self._rows_J = (~table.withdrawn_I).nonzero()[:, 0].cpu()
        self._index = _new_index(table.rows_ID.shape[1] + 1, len(self._rows_J), options)
        if not self._index.is_trained:
            drawn = torch.randperm(len(self._rows_J), generator=torch.Generator().manual_seed(0))
            wanted = min(len(self._rows_J), _POINTS_PER_LIST * self._index.nlist)
            self._index.train(self._vectors(self._rows_J[drawn[:wanted].sort().values]))
        for rows_J in self._rows_J.split(_ROWS_AT_ONCE):
            self._index.add(self._vectors(rows_J))

    def search(
        self, queries_BD: Float[Tensor, "B D"], k: int, exclude: "Exclude" = None
    ) -> tuple[Int64[Tensor, "B K"], Float[Tensor, "B K"]]:
        """Find k good items for each query, as `ItemTable.search` finds the best."""
        longest = max((len(items) for items in exclude), default=0) if exclude is not None else 0
        width = min(k + longest, len(self._rows_J))
        divisor = 1.0 if self.table.divisor is None else float(self.table.divisor)
        asked_BD = (queries_BD.detach().float() / divisor).cpu()
        asked_BD = torch.cat([asked_BD, asked_BD.new_ones(len(asked_BD), 1)], dim=1)
        found_BW = np.full((len(asked_BD), k), -1)
        if width and len(asked_BD):
            found_BW = self._index.search(asked_BD.numpy(), width)[1]
        places_BW = torch.from_numpy(found_BW)
        items_BW = self._rows_J[places_BW.clamp(min=0)] if len(self._rows_J) else places_BW.clamp(min=0)
        items_BW = items_BW.masked_fill(places_BW < 0, len(self.table)).sort(dim=1).values.to(queries_BD.device)
        gone_BW = items_BW == len(self.table)
        for row, items in enumerate(exclude if exclude is not None else ()):
            gone_BW[row] |= torch.isin(items_BW[row].cpu(), torch.from_numpy(items.astype(np.int64))).to(gone_BW.device)
        scores_BW = self.table.scores_of(queries_BD, items_BW.masked_fill(gone_BW, 0))
        scores_BW = scores_BW.masked_fill(gone_BW, -torch.inf)
        if width < k:
            scores_BW = torch.nn.functional.pad(scores_BW, (0, k - scores_BW.shape[1]), value=-torch.inf)
            items_BW = torch.nn.functional.pad(items_BW, (0, k - items_BW.shape[1]), value=-1)
        best = scores_BW.sort(dim=1, descending=True, stable=True)
        items_BK, scores_BK = items_BW.gather(1, best.indices)[:, :k], best.values[:, :k]
        return items_BK.masked_fill(scores_BK.isneginf(), -1), scores_BK

    def _vectors(self, rows_J: Int64[Tensor, "J"]) -> np.ndarray:
        rows_J = rows_J.to(self.table.rows_ID.device)
        bias_J = rows_J.new_zeros(len(rows_J)) if self.table.bias_I is None else self.table.bias_I[rows_J]
        vectors_JD = torch.cat([self.table.rows_ID[rows_J].float(), bias_J.float()[:, None]], dim=1)
        return np.ascontiguousarray(vectors_JD.detach().cpu().numpy())


def sources(table: "ItemTable") -> tuple[tuple[int, int], ...]:
    """Tell what an index is made of, and how often it was written."""
    tensors = (table.rows_ID, table.bias_I, table.withdrawn_I)
    return tuple((id(tensor), tensor._version) for tensor in tensors if tensor is not None)


def recall(table: "ItemTable", queries_BD: Float[Tensor, "B D"], k: int, *, exclude: "Exclude" = None) -> float:
    """Measure the share of the k best items that a table's search finds, the mean over queries.

    Args:
        table: the items, with the options of their index.
        queries_BD: of real questions: indexes find more for some than for others.
        k: how many are asked for.
        exclude: as for `ItemTable.search`.
    """
    exact_BK, _ = table.search(queries_BD, k, exclude=exclude, exact=True)
    return share_found(exact_BK, table.search(queries_BD, k, exclude=exclude)[0])


def share_found(exact_BK: Int64[Tensor, "B K"], found_BK: Int64[Tensor, "B K"]) -> float:
    """Compute the share of the items of each exact answer that another answer holds, the mean over queries."""
    there_BK = (exact_BK[:, :, None] == found_BK[:, None, :]).any(dim=2) & (exact_BK >= 0)
    return float((there_BK.sum(dim=1) / (exact_BK >= 0).sum(dim=1).clamp(min=1)).mean())


def require_faiss() -> None:
    """Refuse an index without the library that makes it.

    Raises:
        ThinkrankError: with the line that installs it.
    """
    if importlib.util.find_spec("faiss") is None:
        raise ThinkrankError("an index needs faiss: run `pip install 'thinkrank[ann]'`, or search with index = exact")


def _new_index(width: int, num_items: int, options: SearchOptions) -> Any:
    """Make an empty index of inner products."""
    require_faiss()
    import faiss

    index: Any = faiss.IndexFlatIP(width)
    if options.index == "hnsw":
        index = faiss.IndexHNSWFlat(width, options.links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = index.hnsw.efSearch = options.effort
    elif options.index == "ivf":
        lists = max(1, min(options.lists or round(4 * num_items**0.5), num_items))
        index = faiss.IndexIVFFlat(index, width, lists, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = min(options.probes, lists)
    return index
