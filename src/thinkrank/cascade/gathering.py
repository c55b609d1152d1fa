"""How what the stages said is brought together.

Shape legend: B requests, W whole list, K places of the answer.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64, Int32

from thinkrank.cascade.answers import NO_THOUGHT
from thinkrank.stages.answers import Cost, Latent, Ranking


def final(
    items_BW: Int32[np.ndarray, "B W"], scores_BW: Float64[np.ndarray, "B W"], answers: Mapping[str, Ranking], k: int
) -> Ranking:
    """Gather the first k places, and what was thought about them."""
    items_BK = items_BW[:, :k]
    scores_BK = np.where(items_BK >= 0, scores_BW[:, :k], -np.inf).astype(np.float32)
    ranked, written = answers.get("rank"), answers.get("rerank")
    costs = [answer.cost for answer in answers.values() if answer.cost is not None]
    return Ranking(
        items_BK,
        scores_BK,
        thoughts=answers["retrieve"].thoughts,
        reasons=None if ranked is None else _reasons(items_BK, ranked),
        latent=None if written is None else _latent(items_BK, written),
        cost=Cost(sum(cost.seconds for cost in costs), sum(cost.tokens for cost in costs)),
    )


def _reasons(items_BK: Int32[np.ndarray, "B K"], ranked: Ranking) -> Any:
    """Bring the ranker's reasons into the final order; an empty one beside what it was not asked about."""
    if ranked.reasons is None:
        return None
    found = []
    for items, answered, reasons in zip(items_BK.tolist(), ranked.items_BK.tolist(), ranked.reasons, strict=True):
        by_item = dict(zip((item for item in answered if item >= 0), reasons, strict=True))
        found.append(tuple(by_item.get(item, NO_THOUGHT) for item in items if item >= 0))
    return tuple(found)


def _latent(items_BK: Int32[np.ndarray, "B K"], written: Ranking) -> Latent | None:
    """Bring the re-ranker's latent thinking into the final order; none beside what it was not asked about."""
    if written.latent is None:
        return None
    before_BK, after_BK = np.zeros((2, *items_BK.shape), np.float32)
    steps_BK = np.zeros(items_BK.shape, np.int32)
    for row, (items, answered) in enumerate(zip(items_BK.tolist(), written.items_BK.tolist(), strict=True)):
        places = {item: place for place, item in enumerate(answered) if item >= 0}
        for place, item in enumerate(items):
            if item in places:
                from_place = places[item]
                before_BK[row, place] = written.latent.entropies_before_BK[row, from_place]
                after_BK[row, place] = written.latent.entropies_after_BK[row, from_place]
                steps_BK[row, place] = written.latent.steps_BK[row, from_place]
    return Latent(before_BK, after_BK, steps_BK)
