"""Lists as columns of candidates, -1 where a list has ended; and what users did, read along them.

Shape legend: R rows (lists), N candidates, K places.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def ordered(
    keys_RN: Float[Tensor, "R N"], mask_RN: Bool[Tensor, "R N"], length: int | None = None
) -> Int[Tensor, "R K"]:
    """Order candidates by rising key, of equal ones the first first, cut after `length` places."""
    order_RN = keys_RN.masked_fill(~mask_RN, torch.inf).argsort(dim=1, stable=True)
    return order_RN.masked_fill(~mask_RN.gather(1, order_RN), -1)[:, :length]


def displayed_places(mask_RN: Bool[Tensor, "R N"]) -> Float[Tensor, "R N"]:
    """Return where each candidate was displayed, from 0: the key that `ordered` gives the displayed order for."""
    return torch.arange(mask_RN.shape[1], device=mask_RN.device).expand_as(mask_RN).float()


def along(columns_RK: Int[Tensor, "R K"], values_RN: Float[Tensor, "R N"]) -> Float[Tensor, "R K"]:
    """Read a value of each candidate in the order of a list; 0 where the list has ended (column -1)."""
    return values_RN.gather(1, columns_RK.clamp(min=0)).masked_fill(columns_RK < 0, 0.0)
