"""Lists as columns of candidates, -1 where a list has ended; and what users did, read along them.

Shape legend: R rows (lists), N candidates, K places.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def ordered(
    keys_RN: Float[Tensor, "R N"], mask_RN: Bool[Tensor, "R N"], length: int | None = None
) -> Int[Tensor, "R K"]:
    """Candidates by rising key, of equal ones the first first, cut after `length` places."""
    order_RN = keys_RN.masked_fill(~mask_RN, torch.inf).argsort(dim=1, stable=True)
    return order_RN.masked_fill(~mask_RN.gather(1, order_RN), -1)[:, :length]


def displayed_places(mask_RN: Bool[Tensor, "R N"]) -> Float[Tensor, "R N"]:
    """Where each candidate was displayed, from 0: the key that `ordered` gives the displayed order for."""
    return torch.arange(mask_RN.shape[1], device=mask_RN.device).expand_as(mask_RN).float()


def along(columns_RK: Int[Tensor, "R K"], values_RN: Float[Tensor, "R N"]) -> Float[Tensor, "R K"]:
    """A value of each candidate in the order of a list; 0 where the list has ended (column -1)."""
    return values_RN.gather(1, columns_RK.clamp(min=0)).masked_fill(columns_RK < 0, 0.0)


def click_ndcg(columns_RK: Int[Tensor, "R K"], feedback_RN: Float[Tensor, "R N"]) -> Float[Tensor, "R"]:
    """NDCG of lists of K places: Σ_k c_k / log2(k + 1) over that of the best list; 0 without any feedback.

    Args:
        columns_RK: candidates in order; -1 where a list has ended.
        feedback_RN: c, 0 or above, of every candidate.

    Source: Järvelin & Kekäläinen 2002, with the grade itself as the gain.
    """
    ideal_RK = feedback_RN.sort(dim=1, descending=True).values[:, : columns_RK.shape[1]]
    best_R = discounted(ideal_RK)
    return discounted(along(columns_RK, feedback_RN)) / best_R.masked_fill(best_R == 0, 1.0)


def discounted(values_RK: Float[Tensor, "R K"]) -> Float[Tensor, "R"]:
    """Σ_k v_k / log2(k + 1), places from 1."""
    places_K = torch.arange(values_RK.shape[1], device=values_RK.device, dtype=values_RK.dtype)
    return values_RK @ (1 / (places_K + 2).log2())


def click_reciprocal_rank(columns_RK: Int[Tensor, "R K"], feedback_RN: Float[Tensor, "R N"]) -> Float[Tensor, "R"]:
    """1 / place of the first candidate with feedback; 0 if the list has none."""
    clicked_RK = along(columns_RK, feedback_RN) > 0
    return clicked_RK.any(dim=1) / (1.0 + clicked_RK.int().argmax(dim=1))
