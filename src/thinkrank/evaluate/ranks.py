"""Where the true item stands among all scored items.

Shape legend: B users, I items.
"""

import numpy as np
from jaxtyping import Float32, Int64, Integer


def target_ranks(scores_BI: Float32[np.ndarray, "B I"], targets_B: Integer[np.ndarray, "B"]) -> Int64[np.ndarray, "B"]:
    """1-based place of each user's target, ties broken pessimistically.

    rank = number of items whose score is at least the target's, itself included. An item with an equal score thus
    stands
    before the target: a model that scores everything alike gets the last place, not the first. A target of score -inf
    was left out of the ranking and gets I + 1, a place no list has.

    Args:
        scores_BI: higher is better, any unit; -inf for an item that must not be recommended.
        targets_B: catalogue row of the true item.

    Raises:
        ValueError: if a score is NaN, or a target is not a catalogue row.
    """
    num_items = scores_BI.shape[1]
    if np.isnan(scores_BI).any():
        raise ValueError("scores hold NaN, so they have no order")
    if ((targets_B < 0) | (targets_B >= num_items)).any():
        raise ValueError(f"targets must be catalogue rows 0 to {num_items - 1}")
    target_scores_B1 = np.take_along_axis(scores_BI, targets_B[:, None].astype(np.intp), axis=1)
    ranks_B = np.count_nonzero(scores_BI >= target_scores_B1, axis=1)
    return np.asarray(np.where(np.isneginf(target_scores_B1[:, 0]), num_items + 1, ranks_B))
