"""The processes that train together. There is one so far; every training loop asks here what it may do.

Shape legend: R rows of this process.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Shaped
from torch import Tensor


@dataclass(frozen=True)
class World:
    """Know this process's place among all.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Tell whether this is the process that writes."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Return which of n things are this process's; shares are neighbours and differ by at most 1."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def sum_(self, tensors: Iterable[Tensor]) -> None:
        """Add up each tensor over all processes, in place."""

    def gather(self, rows: Shaped[Tensor, "R ..."]) -> Shaped[Tensor, "S ..."]:
        """Return the rows of all processes, in the order of ranks."""
        return rows


SINGLE = World()
"""One process."""
