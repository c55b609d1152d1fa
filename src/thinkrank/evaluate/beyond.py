"""What a system recommends, whether or not it is right: coverage, popularity bias, novelty.

Shape legend: S lists, K places of a list, I items. Place -1 holds no item and is passed over.
"""

import numpy as np
from jaxtyping import Float64, Int32, Integer


def coverage(items_SK: Int32[np.ndarray, "S K"], num_items: int, k: int | None = None) -> float:
    """Compute the share of the catalogue that stands in the first k places of at least one list."""
    return len(np.unique(_recommended(items_SK, k))) / num_items


def popularity_percentile(
    items_SK: Int32[np.ndarray, "S K"], counts_I: Integer[np.ndarray, "I"], k: int | None = None
) -> float:
    """Compute the mean popularity percentile of the recommended items, 0 to 1.

    An item's percentile is the share of the catalogue with fewer training interactions plus half the share with as
    many, so recommending at random gives one half whatever the distribution, and only the most popular items come near
    1. 0.0 if nothing was recommended.
    """
    order_I = np.sort(counts_I)
    below_I = np.searchsorted(order_I, counts_I, side="left")
    up_to_I = np.searchsorted(order_I, counts_I, side="right")
    return _mean((below_I + up_to_I) / (2 * len(counts_I)), items_SK, k)


def average_popularity(
    items_SK: Int32[np.ndarray, "S K"], counts_I: Integer[np.ndarray, "I"], k: int | None = None
) -> float:
    """Compute the mean number of training interactions of the recommended items; 0.0 if there are none.

    Source: "ARP", Yin et al. 2012.
    """
    return _mean(counts_I.astype(np.float64), items_SK, k)


def novelty(items_SK: Int32[np.ndarray, "S K"], counts_I: Integer[np.ndarray, "I"], k: int | None = None) -> float:
    """Compute the mean self-information of the recommended items in bits; 0.0 if there are none.

    -log2 of an item's share of the training interactions, with one interaction added to every item, so that an item
    that was never seen is very novel and not infinitely so. Source: Zhou et al. 2010, smoothing ours.
    """
    smoothed_I = counts_I + 1.0
    return _mean(-np.log2(smoothed_I / smoothed_I.sum()), items_SK, k)


def _recommended(items_SK: Int32[np.ndarray, "S K"], k: int | None) -> Int32[np.ndarray, "P"]:
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    items_SK = items_SK[:, :k]
    return items_SK[items_SK >= 0]


def _mean(value_I: Float64[np.ndarray, "I"], items_SK: Int32[np.ndarray, "S K"], k: int | None) -> float:
    items = _recommended(items_SK, k)
    return float(value_I[items].mean()) if len(items) else 0.0
