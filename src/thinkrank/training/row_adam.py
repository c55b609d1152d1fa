"""Adam for tables of which an update touches few rows: what is never touched has no state and costs nothing.

Shape legend: I rows of the table, N rows that an update touches, S rows that were ever touched, D width.
"""

import torch
from torch import Tensor


class RowAdam:
    """Step rows of a table that have a gradient, and keep moments of these alone.

    Every row is stepped exactly as an Adam of its own would that sees the row's gradients and no other update: moments
    and their bias correction count the updates that touched the row. Torch's SparseAdam counts all updates instead, and
    keeps moments of the whole table.

    Args:
        table: a parameter whose gradient is sparse, as an `nn.Embedding(sparse=True)` gives it.
        betas: decay rates of the two moments.
        eps: what is added to the root of the second.

    Source: Kingma & Ba 2015, algorithm 1, for each row.
    """

    def __init__(self, table: Tensor, betas: tuple[float, float], eps: float = 1e-8) -> None:
        self.table, self.betas, self.eps = table, betas, eps
        self._load(torch.zeros(0, dtype=torch.long), torch.zeros(2, 0, table.shape[1]), torch.zeros(0))

    def _load(self, rows_S: Tensor, moments_2SD: Tensor, updates_S: Tensor) -> None:
        """Take what is kept of rows; what is allocated beyond them doubles when it is full."""
        device = self.table.device
        self._count = len(rows_S)
        self._rows_S, self._updates_S = rows_S.to(device), updates_S.to(device)
        self._moments_2SD = moments_2SD.to(device)
        self._slot_I = torch.full((len(self.table),), -1, dtype=torch.int32, device=device)
        self._slot_I[self._rows_S] = torch.arange(self._count, dtype=torch.int32, device=device)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Step the rows of the table's gradient, and drop it."""
        if self.table.grad is None:
            return
        gradient = self.table.grad.coalesce()
        self.table.grad = None
        rows_N, gradient_ND = gradient.indices()[0], gradient.values()
        slots_N = self._slots(rows_N)
        self._updates_S[slots_N] += 1
        first, second = self.betas
        first_ND = self._moments_2SD[0, slots_N].lerp_(gradient_ND, 1 - first)
        second_ND = self._moments_2SD[1, slots_N].mul_(second).addcmul_(gradient_ND, gradient_ND, value=1 - second)
        self._moments_2SD[0, slots_N], self._moments_2SD[1, slots_N] = first_ND, second_ND
        updates_N1 = self._updates_S[slots_N, None].double()
        sizes_N1 = rate / (1 - first**updates_N1)
        roots_ND = (second_ND / (1 - second**updates_N1).to(second_ND)).sqrt_().add_(self.eps)
        self.table.index_add_(0, rows_N, first_ND * sizes_N1.to(first_ND) / roots_ND, alpha=-1)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        count = self._count
        return {
            "rows_S": self._rows_S[:count],
            "moments_2SD": self._moments_2SD[:, :count],
            "updates_S": self._updates_S[:count],
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        self._load(tensors["rows_S"], tensors["moments_2SD"], tensors["updates_S"])

    def _slots(self, rows_N: Tensor) -> Tensor:
        """Find where the moments of rows are kept, and begin them where there are none."""
        fresh_M = rows_N[self._slot_I[rows_N] < 0]
        end = self._count + len(fresh_M)
        if end > len(self._rows_S):
            more = max(end, 2 * self._count) - len(self._rows_S)
            self._rows_S = torch.cat([self._rows_S, self._rows_S.new_zeros(more)])
            self._updates_S = torch.cat([self._updates_S, self._updates_S.new_zeros(more)])
            added_2MD = self._moments_2SD.new_zeros(2, more, self._moments_2SD.shape[2])
            self._moments_2SD = torch.cat([self._moments_2SD, added_2MD], dim=1)
        self._rows_S[self._count : end] = fresh_M
        self._slot_I[fresh_M] = torch.arange(self._count, end, dtype=torch.int32, device=fresh_M.device)
        self._count = end
        return self._slot_I[rows_N].long()
