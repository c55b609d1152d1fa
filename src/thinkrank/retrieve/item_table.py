"""Vectors of items, searched block by block, so that no matrix of requests and catalogue is ever held.

    score of an item for a query = query · vector / divisor + bias of the item

Shape legend: B queries, P queries of a training batch, I items, N some items, K answers, D width, C items of a block.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, Integer
from safetensors.torch import load_file
from torch import Tensor
from torch.autograd.function import once_differentiable

from thinkrank._files import atomic_write
from thinkrank.errors import ThinkrankError
from thinkrank.pretrained import reading, write_tensors
from thinkrank.retrieve._vector_file import VectorFile
from thinkrank.retrieve.approximate import Index, sources
from thinkrank.retrieve.search_options import SearchOptions

BLOCK_ROWS = 65_536
_TILE = 64
"""Scores of which only the highest is compared with what was found before."""
_MOST_CELLS = 2**24
"""Scores held together: 64 MiB in fp32."""
_VECTORS_FILE, _STATE_FILE = "vectors.npy", "table.safetensors"

Exclude: TypeAlias = Sequence[Integer[np.ndarray, "_"]] | None
"""For each query the rows that must not be answered, such as the items of a history; None for none."""


class ItemTable:
    """Hold a vector for each item, and find the best items for a query.

    Vectors are kept as they are given: who wants cosines gives unit vectors. Those in half precision are multiplied in
    the queries' own, block by block. With no more items than a block has rows, scores are one matrix product. A
    withdrawn row is never answered; its number stays taken.

    Args:
        rows_ID: the vectors, in memory or mapped from a file; the table writes into them.
        bias_I: added to each item's score; None for nothing.
        divisor: of all dot products, such as a temperature; None for 1.
        block_rows: items that are scored together.
        options: how `search` finds items; None compares all. An index is made when it is first needed, and again when
            vectors were written.

    Attributes:
        written_I: the step at which each row was written last, on the CPU.
        withdrawn_I: True at rows that are never answered.
    """

    def __init__(
        self,
        rows_ID: Float[Tensor, "I D"],
        bias_I: Float[Tensor, "I"] | None = None,
        divisor: Float[Tensor, ""] | float | None = None,
        *,
        block_rows: int = BLOCK_ROWS,
        options: SearchOptions | None = None,
    ) -> None:
        self.options = options or SearchOptions()
        self._index: Index | None = None
        self.rows_ID, self.bias_I, self.divisor, self.block_rows = rows_ID, bias_I, divisor, block_rows
        self.written_I = torch.zeros(len(rows_ID), dtype=torch.long)
        self.withdrawn_I = torch.zeros(len(rows_ID), dtype=torch.bool, device=rows_ID.device)
        self._file: VectorFile | None = None
        """What the vectors are mapped from; None if they are in memory."""

    def __len__(self) -> int:
        return len(self.rows_ID)

    @torch.no_grad()
    def scores(self, queries_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B I"]:
        """Score every item for each query, -inf where withdrawn: for small catalogues, it is one matrix."""
        return torch.cat([scores_BC for _, scores_BC in self._scored(queries_BD, None)], dim=1)

    @torch.no_grad()
    def scores_of(self, queries_BD: Float[Tensor, "B D"], items_BN: Int[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """Score some items for each query, withdrawn ones too."""
        scores_BN = queries_BD.new_empty(items_BN.shape)
        for row, (items_N, query_D) in enumerate(zip(items_BN, queries_BD, strict=True)):
            scores_BN[row] = self.rows_ID[items_N].to(query_D.dtype) @ query_D
        scores_BN = scores_BN if self.divisor is None else scores_BN / self.divisor
        return scores_BN if self.bias_I is None else scores_BN + self.bias_I[items_BN]

    @torch.no_grad()
    def search(
        self, queries_BD: Float[Tensor, "B D"], k: int, *, exclude: Exclude = None, exact: bool = False
    ) -> tuple[Int64[Tensor, "B K"], Float[Tensor, "B K"]]:
        """Find the k best items for each query; of equal scores the lower row comes first.

        Args:
            queries_BD: what is searched with.
            k: how many items.
            exclude: what must not be answered.
            exact: whether all items are compared, whatever the table's options say.

        Returns:
            Items and scores, best first, no wider than the table; -1 and -inf where more were left out.

        Raises:
            ValueError: if k is below 1 or a score is NaN.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        k = min(k, len(self))
        if self.options.index != "exact" and not exact:
            return self.index.search(queries_BD, k, exclude)
        items_BK = torch.full((len(queries_BD), k), -1, device=queries_BD.device)
        scores_BK = queries_BD.new_full((len(queries_BD), k), -torch.inf)
        for part, queries_bD, left_out in self._chunks(queries_BD, exclude):
            items, scores = items_BK[part], scores_BK[part]
            for block, scores_bC in self._scored(queries_bD, left_out):
                columns, better = _better(scores_bC, scores[:, -1:], k)
                items = torch.cat([items, columns + block.start], dim=1)
                scores = torch.cat([scores, better], dim=1)
                order = scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
                items, scores = items.gather(1, order), scores.gather(1, order)
            items_BK[part], scores_BK[part] = items, scores
        return items_BK.masked_fill(scores_BK.isneginf(), -1), scores_BK

    @property
    def index(self) -> Index:
        """Return the index of the vectors as they are now."""
        if self._index is None or self._index.made_of != sources(self):
            self._index = Index(self, self.options)
        return self._index

    @torch.no_grad()
    def target_ranks(
        self, queries_BD: Float[Tensor, "B D"], targets_B: Int[Tensor, "B"], *, exclude: Exclude = None
    ) -> Int64[Tensor, "B"]:
        """Return the 1-based place of each query's target among all items; equal scores stand before it.

        Each block is scored twice, in products of the same shape, so that comparisons are exact.

        Args:
            queries_BD: what is searched with.
            targets_B: rows.
            exclude: as for `search`; a target that is left out has the place I + 1.

        Raises:
            ValueError: if a target is not a row or a score is NaN.
        """
        if bool(((targets_B < 0) | (targets_B >= len(self))).any()):
            raise ValueError(f"targets must be catalogue rows 0 to {len(self) - 1}")
        ranks_B = torch.zeros(len(targets_B), dtype=torch.long, device=queries_BD.device)
        for part, queries_bD, left_out in self._chunks(queries_BD, exclude):
            targets_b = targets_B[part].to(queries_BD.device)
            target_b = queries_bD.new_full(targets_b.shape, -torch.inf)
            for block, scores_bC in self._scored(queries_bD, left_out):
                rows, columns = _cells(targets_b, block)
                target_b[rows] = scores_bC[rows, columns]
            for block, scores_bC in self._scored(queries_bD, left_out):
                _refuse_nan(scores_bC)
                scores_bC[_cells(targets_b, block)] = torch.inf
                ranks_B[part] += (scores_bC >= target_b[:, None]).sum(dim=1)
            ranks_B[part] = ranks_B[part].masked_fill(target_b.isneginf(), len(self) + 1)
        return ranks_B

    def log_normaliser(self, queries_PD: Float[Tensor, "P D"], *, exclude: Exclude = None) -> Float[Tensor, "P"]:
        """Return log Σ_i exp(score of item i), in nats; differentiable in the queries, blocks being computed again.

        -inf, without gradient, where everything is left out.
        """
        total_P: Tensor = _LogNormaliser.apply(queries_PD, self.rows_ID, self, exclude)  # type: ignore[no-untyped-call]
        return total_P

    @torch.no_grad()
    def write(self, rows_N: Int[Tensor, "N"], vectors_ND: Float[Tensor, "N D"], *, step: int) -> None:
        """Write vectors in place.

        Args:
            rows_N: which, none of them twice.
            vectors_ND: what is written.
            step: by which their age is counted.
        """
        self.rows_ID.index_copy_(0, rows_N.to(self.rows_ID.device), vectors_ND.to(self.rows_ID))
        self.written_I[rows_N.cpu()] = step
        if self._file is not None:
            self._file.written()

    def ages(self, step: int) -> Int64[Tensor, "I"]:
        """Count the steps since each row was written."""
        return step - self.written_I

    def oldest(self, n: int) -> Int64[Tensor, "N"]:
        """Return the n rows that were written longest ago, the lower of equal ones first; none that is withdrawn."""
        order_I = self.written_I.argsort(stable=True)
        return order_I[~self.withdrawn_I.cpu()[order_I]][:n]

    @torch.no_grad()
    def add(self, vectors_ND: Float[Tensor, "N D"], *, step: int = 0) -> range:
        """Append items, without bias, and return their rows; to the file, if the table may write into one."""
        before, vectors_ND = len(self), vectors_ND.to(self.rows_ID)
        if self._file is None or not self._file.writable:
            self.rows_ID, self._file = torch.cat([self.rows_ID, vectors_ND]), None
        else:
            self.rows_ID = self._file.append(vectors_ND)
        self.written_I = torch.cat([self.written_I, self.written_I.new_full((len(vectors_ND),), step)])
        self.withdrawn_I = torch.cat([self.withdrawn_I, self.withdrawn_I.new_zeros(len(vectors_ND))])
        self.bias_I = None if self.bias_I is None else torch.cat([self.bias_I, self.bias_I.new_zeros(len(vectors_ND))])
        return range(before, len(self))

    def withdraw(self, rows_N: Int[Tensor, "N"]) -> None:
        """Answer with these rows no more."""
        self.withdrawn_I[rows_N.to(self.withdrawn_I.device)] = True

    def save(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write vectors, biases, ages and what is withdrawn into a folder, made if need be.

        Args:
            folder: where.
            dtype: of the vectors there, such as `torch.float16` for half the size; None for what they have.
        """
        folder = Path(folder)
        if self._file is None or not self._file.writable or self._file.path != folder / _VECTORS_FILE:
            with atomic_write(folder / _VECTORS_FILE) as file:
                VectorFile.write(file, self.rows_ID, dtype)  # else what was written is there already
        state = {"written_I": self.written_I, "withdrawn_I": self.withdrawn_I}
        if self.bias_I is not None:
            state["bias_I"] = self.bias_I
        if self.divisor is not None:
            state["divisor"] = torch.as_tensor(self.divisor)
        write_tensors(folder / _STATE_FILE, state)

    @classmethod
    def create(
        cls, folder: str | Path, num_items: int, width: int, *, dtype: torch.dtype = torch.float16
    ) -> "ItemTable":
        """Make a table of zeros on the disk, to be written into: for more vectors than memory holds."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        VectorFile.empty(folder / _VECTORS_FILE, num_items, width, dtype)
        state = {"written_I": torch.zeros(num_items, dtype=torch.long)}
        write_tensors(folder / _STATE_FILE, state | {"withdrawn_I": torch.zeros(num_items, dtype=torch.bool)})
        return cls.open(folder, writable=True)

    @classmethod
    def open(cls, folder: str | Path, *, writable: bool = False, block_rows: int = BLOCK_ROWS) -> "ItemTable":
        """Map what `save` wrote into memory: rows are read when they are needed, and shared by processes.

        A block that was scored is given back, so that a table may be larger than the memory.

        Args:
            folder: where.
            writable: whether what is written goes into the file; else it stays in this process.
            block_rows: as for the class.

        Raises:
            ThinkrankError: if files are missing or do not fit each other.
        """
        folder = Path(folder)
        with reading(folder):
            state = load_file(folder / _STATE_FILE)
            vectors = VectorFile(folder / _VECTORS_FILE, writable=writable)
            table = cls(vectors.mapped(), state.get("bias_I"), state.get("divisor"), block_rows=block_rows)
            table.written_I, table.withdrawn_I = state["written_I"], state["withdrawn_I"]
        if any(len(values) != len(table) for name, values in state.items() if name != "divisor"):
            raise ThinkrankError(f"{folder}: {_STATE_FILE} and {_VECTORS_FILE} differ in rows. Save the table again.")
        table._file = vectors
        return table

    def _chunks(
        self, queries_BD: Float[Tensor, "B D"], exclude: Exclude
    ) -> Iterator[tuple[slice, Float[Tensor, "b D"], "LeftOut | None"]]:
        """Yield a few queries at a time, with what is left out for them."""
        size = max(1, _MOST_CELLS // max(1, min(len(self), self.block_rows)))
        for start in range(0, len(queries_BD), size):
            part = slice(start, min(start + size, len(queries_BD)))
            yield part, queries_BD[part], None if exclude is None else LeftOut(exclude[part], queries_BD.device)

    def _scored(
        self, queries_BD: Float[Tensor, "B D"], left_out: "LeftOut | None"
    ) -> Iterator[tuple[slice, Float[Tensor, "B C"]]]:
        """Yield block after block its place and its scores, -inf for what must not be answered."""
        for start in range(0, max(1, len(self)), self.block_rows):
            block = slice(start, min(start + self.block_rows, len(self)))
            rows_CD = self.rows_ID[block].to(queries_BD.dtype)
            if len(self) > self.block_rows and rows_CD.device.type == "cpu":
                # numpy brings a BLAS that is a quarter faster here than torch's on processors of AMD
                scores_BC = torch.from_numpy(queries_BD.detach().numpy() @ rows_CD.detach().numpy().T)
            else:
                scores_BC = queries_BD @ rows_CD.T
            if self._file is not None:
                self._file.release(block)
            if self.divisor is not None:
                scores_BC /= self.divisor
            if self.bias_I is not None:
                scores_BC += self.bias_I[block]
            if bool(self.withdrawn_I[block].any()):
                scores_BC.masked_fill_(self.withdrawn_I[block], -torch.inf)
            if left_out is not None:
                left_out.mask_(scores_BC, block)
            yield block, scores_BC


class LeftOut:
    """Cells of a matrix of queries and items that must not be answered."""

    def __init__(self, exclude: Sequence[Integer[np.ndarray, "_"]], device: torch.device) -> None:
        rows = np.repeat(np.arange(len(exclude)), [len(items) for items in exclude])
        items = np.concatenate([np.zeros(0, np.int64), *exclude])
        self.rows_E = torch.from_numpy(rows).to(device)
        self.items_E = torch.from_numpy(items.astype(np.int64)).to(device)

    def mask_(self, scores_BC: Float[Tensor, "B C"], block: slice) -> None:
        """Fill the cells of this block with -inf, in place."""
        inside, columns = _cells(self.items_E, block)
        scores_BC[self.rows_E[inside], columns] = -torch.inf


class _LogNormaliser(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries_PD: Float[Tensor, "P D"], rows_ID: Float[Tensor, "I D"], table: ItemTable, exclude: Exclude
    ) -> Float[Tensor, "P"]:
        total_P = queries_PD.new_full((len(queries_PD),), -torch.inf)
        for part, queries_pD, left_out in table._chunks(queries_PD, exclude):
            for _, scores_pC in table._scored(queries_pD, left_out):
                total_P[part] = torch.logaddexp(total_P[part], scores_pC.logsumexp(dim=1))
        ctx.save_for_backward(queries_PD, total_P, rows_ID)  # vectors that were written since would be noticed
        ctx.table, ctx.exclude = table, exclude
        return total_P

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_P: Float[Tensor, "P"]) -> tuple[Tensor, None, None, None]:
        queries_PD, total_P, rows_ID = ctx.saved_tensors
        gradient_PD = torch.zeros_like(queries_PD)
        total_P = total_P.masked_fill(total_P.isneginf(), 0.0)
        for part, queries_pD, left_out in ctx.table._chunks(queries_PD, ctx.exclude):
            for block, scores_pC in ctx.table._scored(queries_pD, left_out):
                shares_pC = (scores_pC - total_P[part, None]).exp()
                gradient_PD[part] += (shares_pC * gradient_P[part, None]) @ rows_ID[block].to(queries_pD.dtype)
        return gradient_PD if ctx.table.divisor is None else gradient_PD / ctx.table.divisor, None, None, None


def _better(
    scores_BC: Float[Tensor, "B C"], least_B1: Float[Tensor, "B 1"], k: int
) -> tuple[Int64[Tensor, "B N"], Float[Tensor, "B N"]]:
    """Find what of a block can be among the k highest: columns, the lower first, and scores; -1 and -inf fill up.

    Few scores are looked at one by one. The block is laid in tiles; the k-th highest of their maxima is reached by k
    scores at least, so that a tile whose maximum is below it, or no more than `least`, holds nothing.

    Args:
        scores_BC: of a block.
        least_B1: what has to be exceeded.
        k: how many are wanted.
    """
    num_rows, num_columns = scores_BC.shape
    tile = min(_TILE, num_columns // max(k, _TILE))
    if tile < 2:  # so small, or so much wanted, that sorting is no more work
        _refuse_nan(scores_BC)
        found = scores_BC.sort(dim=1, descending=True, stable=True)
        return found.indices[:, :k], found.values[:, :k]
    width = -(-num_columns // tile)  # tile t holds the columns t, t + width, t + 2 width, ...
    highest_BT = scores_BC[:, :width].clone()
    for start in range(width, num_columns, width):
        column = scores_BC[:, start : start + width]
        torch.maximum(highest_BT[:, : column.shape[1]], column, out=highest_BT[:, : column.shape[1]])
    _refuse_nan(highest_BT)
    bound_B1 = highest_BT.topk(k, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
    rows_E, tiles_E = ((highest_BT >= bound_B1) & (highest_BT > least_B1)).nonzero(as_tuple=True)
    columns_ES = tiles_E[:, None] + torch.arange(0, num_columns, width, device=tiles_E.device)
    scores_ES = scores_BC[rows_E[:, None], columns_ES.clamp(max=num_columns - 1)]
    there_ES = (columns_ES < num_columns) & (scores_ES >= bound_B1[rows_E]) & (scores_ES > least_B1[rows_E])
    cells_F = (rows_E[:, None] * num_columns + columns_ES)[there_ES].sort().values
    rows_F, columns_F = cells_F // num_columns, cells_F % num_columns
    counts_B = torch.bincount(rows_F, minlength=num_rows)
    places_F = torch.arange(len(rows_F), device=rows_F.device) - (counts_B.cumsum(0) - counts_B)[rows_F]
    columns_BN = rows_F.new_full((num_rows, int(counts_B.max()) if num_rows else 0), -1)
    better_BN = scores_BC.new_full(columns_BN.shape, -torch.inf)
    columns_BN[rows_F, places_F], better_BN[rows_F, places_F] = columns_F, scores_BC[rows_F, columns_F]
    return columns_BN, better_BN


def _cells(items_E: Int[Tensor, "E"], block: slice) -> tuple[Int64[Tensor, "F"], Int64[Tensor, "F"]]:
    """Find which of some items stand in a block, and their columns in it."""
    inside = ((items_E >= block.start) & (items_E < block.stop)).nonzero()[:, 0]
    return inside, items_E[inside] - block.start


def _refuse_nan(scores_BC: Float[Tensor, "B C"]) -> None:
    if bool(scores_BC.isnan().any()):
        raise ValueError("scores hold NaN, so they have no order")
