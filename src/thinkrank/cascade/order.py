"""How a stage's answer changes the list it was given, which goes on behind what the stage looked at.

Shape legend: B requests, N candidates of the stage, W whole list, K places of its answer.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from thinkrank.cascade.options import Blend
from thinkrank.errors import ThinkrankError
from thinkrank.stages.answers import Ranking

_GAP = 1e-5
"""Between the last that a stage sorted and what stands behind, so that rounding makes no tie of them."""


def columns_of(answer: Ranking) -> Int32[np.ndarray, "B K"]:
    """Return which candidate stands on each place of a stage's answer.

    Raises:
        ThinkrankError: if the stage does not say.
    """
    if answer.columns_BK is None:
        raise ThinkrankError(
            "a ranker or re-ranker of a cascade must say which candidate each item is: "
            "answer with Ranking(..., columns_BK=...)"
        )
    return answer.columns_BK


def own_scores(answer: Ranking, num_candidates: int) -> Float64[np.ndarray, "B N"]:
    """Return a stage's scores of its candidates, in the order given.

    A re-ranker's numbers say how likely each choice was and are no order; then the score is minus the logarithm of
    the place. What a stage did not answer scores below all that it did.
    """
    columns_BK = columns_of(answer)
    scores_BK = answer.scores_BK.astype(np.float64)
    there_BK = columns_BK >= 0
    falls_BK = np.where(there_BK[:, 1:], scores_BK[:, 1:] <= scores_BK[:, :-1], True)
    are_scores_B1 = falls_BK.all(axis=1, keepdims=True) & (answer.latent is None)
    scores_BK = np.where(are_scores_B1, scores_BK, -np.log(np.arange(scores_BK.shape[1]) + 1.0))
    scores_BN = np.full((len(answer), num_candidates), np.nan)
    rows, places = np.nonzero(there_BK)
    scores_BN[rows, columns_BK[rows, places]] = scores_BK[rows, places]
    lowest_B1 = np.where(there_BK, scores_BK, np.inf).min(axis=1, keepdims=True, initial=0.0)
    return np.where(np.isnan(scores_BN), lowest_B1 - 1, scores_BN)


def reordered(
    scores_BW: Float64[np.ndarray, "B W"],
    own_BN: Float64[np.ndarray, "B N"],
    knows_BN: Bool[np.ndarray, "B N"],
    blend: Blend,
) -> tuple[Int64[np.ndarray, "B W"], Float64[np.ndarray, "B W"]]:
    """Sort the beginning of lists by what a stage says of it; equal scores keep the order given.

    An item that the stage does not know keeps its place, with a score between its neighbours'. What stands behind the
    beginning goes on from its last score.

    Args:
        scores_BW: of the lists, falling; -inf where there is nothing.
        own_BN: the stage's scores of the first N.
        knows_BN: where there is an item that the stage knows.
        blend: weights of the scores so far and of the stage's own.

    Returns:
        for each place the place it is taken from, and the new scores, falling.
    """
    order_BW = np.tile(np.arange(scores_BW.shape[1]), (len(scores_BW), 1))
    new_BW, width = scores_BW.copy(), own_BN.shape[1]
    for row, (own_N, knows_N, scores_W) in enumerate(zip(own_BN, knows_BN, scores_BW, strict=True)):
        slots = np.flatnonzero(knows_N)
        if not len(slots):
            continue
        joined = blend.before * scores_W[slots] + blend.own * own_N[slots]
        best = np.argsort(-joined, kind="stable")
        order_BW[row, slots] = slots[best]
        there = np.flatnonzero(np.isfinite(scores_W[:width]))
        new_BW[row, there] = np.interp(there, slots, joined[best])
        behind = np.isfinite(scores_W) & (np.arange(len(scores_W)) >= width)
        last = new_BW[row, there[-1]]
        new_BW[row, behind] += last - _GAP * max(1.0, abs(last)) - scores_W[there[-1]]
    return order_BW, new_BW


def taken(values_BW: np.ndarray, order_BW: Int64[np.ndarray, "B W"]) -> np.ndarray:
    """Bring lists into an order."""
    return np.take_along_axis(values_BW, order_BW, axis=1)


def without(answer: Ranking, dropped: list[Int64[np.ndarray, "_"]], width: int) -> Ranking:
    """Leave items out of an answer and close the gaps; `width` places are kept, -1 fills up."""
    items_BK, scores_BK = answer.items_BK, answer.scores_BK
    if any(len(one) for one in dropped):
        gone_BK = np.stack([np.isin(items_K, one) for items_K, one in zip(items_BK, dropped, strict=True)])
        kept_last_BK = np.argsort(gone_BK, axis=1, kind="stable")
        items_BK = taken(np.where(gone_BK, -1, items_BK), kept_last_BK)
        scores_BK = taken(np.where(gone_BK, -np.inf, scores_BK), kept_last_BK)
    more = max(0, width - items_BK.shape[1])
    return Ranking(
        np.pad(items_BK[:, :width], [(0, 0), (0, more)], constant_values=-1).astype(np.int32),
        np.pad(scores_BK[:, :width], [(0, 0), (0, more)], constant_values=-np.inf).astype(np.float32),
        thoughts=answer.thoughts,
        cost=answer.cost,
    )
