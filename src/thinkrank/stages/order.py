"""How scores become answers.

Shape legend: B requests, I items of the catalogue, N candidates, K length of the answer.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Int64, Integer

from thinkrank.data.candidates import Candidates
from thinkrank.data.history import History
from thinkrank.errors import ThinkrankError
from thinkrank.stages.answers import Ranking, Thought

MOST_PLACES = 1_000_000
"""An answer of lists is as wide as it is asked to be, whatever the longest list of the batch is; up to this."""


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
    """Find the k best items. Equal scores are ordered by catalogue row, so the answer is deterministic.

    Args:
        scores_BI: higher is better; must not hold NaN.
        histories: one per row of scores.
        k: how many items to return; an answer is no wider than the catalogue.
        filter_seen: leave out the items of the history.
        thoughts: passed on into the answer.

    Raises:
        ValueError: if k is below 1 or a score is NaN.
    """
    _check(k, scores_BI)
    if filter_seen:
        scores_BI = mask_seen(scores_BI, histories)
    num_users, num_items = scores_BI.shape
    k = min(k, num_items)
    items_BK = np.full((num_users, k), -1, dtype=np.int32)
    scores_BK = np.full((num_users, k), -np.inf, dtype=np.float32)
    for items_K, scores_K, scores_I in zip(items_BK, scores_BK, scores_BI, strict=True):
        best = np.arange(num_items)
        if k < num_items:
            bound = np.partition(scores_I, num_items - k)[num_items - k]
            best = np.flatnonzero(scores_I >= bound)
        best = best[np.argsort(-scores_I[best], kind="stable")[:k]]
        items_K[: len(best)], scores_K[: len(best)] = best, scores_I[best]
    items_BK[np.isneginf(scores_BK)] = -1
    return Ranking(items_BK, scores_BK, thoughts=thoughts)


def order_candidates(
    candidates: Candidates,
    scores_BN: Float[np.ndarray, "B N"],
    k: int | None = None,
    *,
    ties: Literal["given", "row"] = "given",
) -> Ranking:
    """Sort candidates by score.

    Args:
        candidates: of B requests.
        scores_BN: higher is better, in the order given; what stands beside padding is not looked at.
        k: how many places to answer with; may exceed the lists, the rest is then -1. None for as many as the longest.
        ties: equal scores keep the order in which candidates were given, or are ordered by catalogue row; the answer
            says which they are.

    Raises:
        ValueError: if k is below 1 or above `MOST_PLACES`, or the score of a candidate is NaN.
    """
    if k is not None and k > MOST_PLACES:
        raise ThinkrankError(f"k must be at most {MOST_PLACES:,}, got {k:,}: an answer of lists is k places wide")
    k = scores_BN.shape[1] if k is None else k
    items_BN, mask_BN = candidates.items_BN, candidates.mask_BN
    scores_BN = np.where(mask_BN, scores_BN, -np.inf).astype(np.float32)
    if scores_BN.shape[1]:
        _check(k, scores_BN)
    keys = (items_BN, -scores_BN, ~mask_BN) if ties == "row" else (-scores_BN, ~mask_BN)  # padding stands last
    order_BN = np.lexsort(keys, axis=1)[:, :k]
    width = order_BN.shape[1]
    there_BN = np.take_along_axis(mask_BN, order_BN, axis=1)
    items_BK, columns_BK = np.full((2, len(items_BN), k), -1, dtype=np.int32)
    scores_BK = np.full((len(items_BN), k), -np.inf, dtype=np.float32)
    items_BK[:, :width] = np.take_along_axis(items_BN, order_BN, axis=1)
    columns_BK[:, :width] = np.where(there_BN, order_BN, -1)
    scores_BK[:, :width] = np.take_along_axis(scores_BN, order_BN, axis=1)
    tied_BK = np.zeros(items_BK.shape, dtype=np.bool_)
    tied_BK[:, 1:] = (scores_BK[:, 1:] == scores_BK[:, :-1]) & (columns_BK[:, 1:] >= 0)
    return Ranking(items_BK, scores_BK, columns_BK, tied_BK)


def target_ranks(scores_BI: Float32[np.ndarray, "B I"], targets_B: Integer[np.ndarray, "B"]) -> Int64[np.ndarray, "B"]:
    """Return the 1-based place of each user's target, ties broken pessimistically.

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
    _check(1, scores_BI)
    if ((targets_B < 0) | (targets_B >= num_items)).any():
        raise ValueError(f"targets must be catalogue rows 0 to {num_items - 1}")
    target_scores_B1 = np.take_along_axis(scores_BI, targets_B[:, None].astype(np.intp), axis=1)
    ranks_B = np.count_nonzero(scores_BI >= target_scores_B1, axis=1)
    return np.asarray(np.where(np.isneginf(target_scores_B1[:, 0]), num_items + 1, ranks_B))


def _check(k: int, scores: np.ndarray) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN, so they have no order")
