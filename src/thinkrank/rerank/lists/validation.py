"""How good new orders of displayed lists are, by the metrics of the tables.

Shape legend: R lists, N candidates, K places.
"""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Shaped

from thinkrank import metrics


def list_ndcg(
    columns_RK: Int[np.ndarray, "R K"],
    feedback_RN: Float[np.ndarray, "R N"],
    k: int,
    tied_RK: Bool[np.ndarray, "R K"] | None = None,
) -> Float64[np.ndarray, "R"]:
    """Return NDCG@k with the gain 2^y - 1; 0 for a list without feedback.

    Columns are candidates in order, -1 where a list has ended; feedback is y of every candidate, 0 or above, of which
    the ideal list is made. Where some are tied with the one before (`Ranking.tied_BK`) the value is the expected one.
    """
    relevance_RK = _along(columns_RK, feedback_RN)
    return metrics.ndcg(relevance_RK, k, gain=metrics.LIST_GAIN, ideal_BM=feedback_RN, tied_BN=tied_RK)


def list_reciprocal_rank(
    columns_RK: Int[np.ndarray, "R K"],
    feedback_RN: Float[np.ndarray, "R N"],
    tied_RK: Bool[np.ndarray, "R K"] | None = None,
) -> Float64[np.ndarray, "R"]:
    """Return 1 / place of the first candidate with feedback; 0 if the order has none. Arguments as for `list_ndcg`."""
    return metrics.reciprocal_rank(_along(columns_RK, feedback_RN), tied_BN=tied_RK)


def _along(columns_RK: Int[np.ndarray, "R K"], values_RN: Shaped[np.ndarray, "R N"]) -> Shaped[np.ndarray, "R K"]:
    return np.where(columns_RK >= 0, np.take_along_axis(values_RN, np.maximum(columns_RK, 0), axis=1), 0)
