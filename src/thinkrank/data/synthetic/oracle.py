"""How good a ranking is where the chance of every item to come next is known.

Shape legend: B histories, I items.
"""

import numpy as np
from jaxtyping import Float32, Float64


def expected_ndcg(
    scores_BI: Float32[np.ndarray, "B I"] | Float64[np.ndarray, "B I"],
    probabilities_BI: Float64[np.ndarray, "B I"],
    k: int | None = None,
) -> Float64[np.ndarray, "B"]:
    """Average NDCG@k over what may come next, instead of NDCG@k at what did: no luck of the draw.

    sum_i p_i [rank_i <= k] / log2(1 + rank_i), ranks by the evaluation's rule: ties are pessimistic, and an item of
    score -inf is left out. With the probabilities as scores it is the best there is.

    Args:
        scores_BI: higher is better, any unit; -inf for items that must not be recommended.
        probabilities_BI: the chance of each item to be the target; rows sum to 1.
        k: the cut-off; None for the whole list.

    Raises:
        ValueError: if k is below 1 or a score is NaN.
    """
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if np.isnan(scores_BI).any():
        raise ValueError("scores hold NaN, so they have no order")
    num_items = scores_BI.shape[1]
    lower_BI = np.empty(scores_BI.shape, dtype=np.int64)
    for lower_I, scores_I in zip(lower_BI, scores_BI, strict=True):
        lower_I[:] = np.searchsorted(np.sort(scores_I), scores_I, side="left")
    ranks_BI = num_items - lower_BI
    found_BI = (ranks_BI <= (num_items if k is None else k)) & ~np.isneginf(scores_BI)
    return np.asarray((probabilities_BI * found_BI / np.log2(1 + ranks_BI)).sum(axis=1))
