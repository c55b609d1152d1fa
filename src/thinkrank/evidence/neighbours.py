"""Votes of item-based nearest neighbours, by how many people two items share.

Shape legend: I items, b items whose votes are asked for.
"""

import numpy as np
from jaxtyping import Float32, Int, Num


def nearest_votes(
    common_bI: Float32[np.ndarray, "b I"],
    items_b: Int[np.ndarray, "b"],
    people_I: Num[np.ndarray, "I"],
    *,
    neighbours: int,
    shrinkage: float,
) -> Float32[np.ndarray, "b I"]:
    """Compute shrunk cosines of some items with all others, but for the nearest of each 0.

    w_ij = n_ij / (sqrt(n_i n_j) + shrinkage), n_ij the people of both; of equals the lower catalogue row is nearer.

    Args:
        common_bI: n_ij.
        items_b: catalogue row of each i.
        people_I: n_j.
        neighbours: how many votes of each item are kept.
        shrinkage: people added to the divisor.

    Source: Deshpande & Karypis 2004; shrinkage after Koren 2008.
    """
    root_I = np.sqrt(people_I).astype(np.float32)
    # An item that nobody took shares no user either: its 0 / 0 is a 0.
    votes_bI = common_bI / np.maximum(root_I[items_b, None] * root_I + np.float32(shrinkage), 1e-12)
    votes_bI[np.arange(len(items_b)), items_b] = 0
    further_bK = np.argsort(-votes_bI, axis=1, kind="stable")[:, neighbours:]
    np.put_along_axis(votes_bI, further_bK, 0, axis=1)
    return votes_bI
