"""How scores become answers.

Shape legend: B requests, I items of the catalogue, K length of the answer.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int64, Integer

from thinkrank.data.history import History
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.stages.answers import Ranking, Slate, Thought


def mask_seen(scores_BI: Float32[np.ndarray, "B I"], histories: Sequence[History]) -> Float32[np.ndarray, "B I"]:
    """Return a copy of the scores in which the items of each history are -inf."""
    masked_BI = scores_BI.copy()
    for row, history in zip(masked_BI, histories, strict=True):
        row[history.items] = -np.inf
    return masked_BI


def top_k(
    scores_BI: Float32[np.ndarray, "B I"],
    histories: Sequence[History],
    k: int,
    *,
    filter_seen: bool = True,
    thoughts: tuple[Thought, ...] | None = None,
) -> Ranking:
    """Sort scores into a `Ranking`. Equal scores are ordered by catalogue row, so the answer is deterministic.

    Args:
        scores_BI: higher is better; must not hold NaN.
        histories: one per row of scores.
        k: how many items to return; may exceed the catalogue, the rest is then -1.
        filter_seen: leave out the items of the history.
        thoughts: passed on into the answer.

    Raises:
        ValueError: if k is below 1 or a score is NaN.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if np.isnan(scores_BI).any():
        raise ValueError("scores hold NaN, so they have no order")
    if filter_seen:
        scores_BI = mask_seen(scores_BI, histories)
    num_users, num_items = scores_BI.shape
    order_BK = np.argsort(-scores_BI, axis=1, kind="stable")[:, :k].astype(np.int32)
    items_BK = np.full((num_users, k), -1, dtype=np.int32)
    scores_BK = np.full((num_users, k), -np.inf, dtype=np.float32)
    width = min(k, num_items)
    items_BK[:, :width] = order_BK
    scores_BK[:, :width] = np.take_along_axis(scores_BI, order_BK, axis=1)
    items_BK[np.isneginf(scores_BK)] = -1
    return Ranking(items_BK, scores_BK, thoughts)


def slate_from_scores(lists: ImpressionDataset, scores_LN: Float32[np.ndarray, "B N"], k: int) -> Slate:
    """Sort the candidates of displayed lists by score. Equal scores keep the displayed order.

    Args:
        lists: B displayed lists.
        scores_LN: higher is better, in displayed order; what stands beside padding is not looked at.
        k: how many places to answer with; may exceed the lists, the rest is then -1.

    Raises:
        ValueError: if k is below 1, or the score of a candidate is NaN.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    scores_LN = np.where(lists.mask_LN, scores_LN, -np.inf)
    if np.isnan(scores_LN).any():
        raise ValueError("scores hold NaN, so they have no order")
    # Padding goes behind a candidate whose score is -inf.
    order_BN = np.lexsort((-scores_LN, ~lists.mask_LN), axis=1)[:, :k]
    width = order_BN.shape[1]
    there_BN = np.take_along_axis(lists.mask_LN, order_BN, axis=1)
    items_BK, columns_BK = np.full((2, len(lists), k), -1, dtype=np.int32)
    scores_BK = np.full((len(lists), k), -np.inf, dtype=np.float32)
    items_BK[:, :width] = np.take_along_axis(lists.items_LN, order_BN, axis=1)
    columns_BK[:, :width] = np.where(there_BN, order_BN, -1)
    scores_BK[:, :width] = np.take_along_axis(scores_LN, order_BN, axis=1)
    return Slate(items_BK, columns_BK, scores_BK)


def target_ranks(scores_BI: Float32[np.ndarray, "B I"], targets_B: Integer[np.ndarray, "B"]) -> Int64[np.ndarray, "B"]:
    """1-based place of each user's target, ties broken pessimistically.

    rank = number of items whose score is at least the target's, itself included. An item with an equal score thus
    stands before the target: a model that scores everything alike gets the last place, not the first. A target
    of score -inf was left out of the ranking and gets I + 1, a place no list has.

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
