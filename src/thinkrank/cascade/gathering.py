"""How what the stages said is brought together, and requests and candidates are taken apart and joined.

Shape legend: B requests, W whole list, K places of the answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int32, Int64

from thinkrank.cascade.answers import NO_THOUGHT
from thinkrank.data.candidates import Candidates
from thinkrank.data.requests import Requests
from thinkrank.stages.answers import Cost, Latent, Ranking


def stacked(parts: Sequence[Candidates]) -> Candidates:
    """Join what some requests each are offered."""
    first, *_ = parts
    items_BN = np.concatenate([part.items_BN for part in parts])
    numeric = [part.numeric_BNF for part in parts if part.numeric_BNF is not None]
    return replace(first, items_BN=items_BN, numeric_BNF=np.concatenate(numeric))


def picked_candidates(candidates: Candidates, rows: Int64[np.ndarray, "_"]) -> Candidates:
    """Take what some requests are offered."""
    numeric_BNF = candidates.numeric_BNF
    return replace(
        candidates,
        items_BN=candidates.items_BN[rows],
        numeric_BNF=None if numeric_BNF is None else numeric_BNF[rows],
    )


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


def some(requests: Requests, rows: Int64[np.ndarray, "_"]) -> Requests:
    """Take some requests."""
    return Requests(
        [requests.histories[row] for row in rows.tolist()],
        None if requests.users is None else tuple(requests.users[row] for row in rows.tolist()),
        None if requests.times_B is None else requests.times_B[rows],
        None if requests.context_BX is None else requests.context_BX[rows],
        requests.context_names,
    )
