"""What a cascade answers with, and how answers to a few requests each are joined.

Shape legend: B requests, K places.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Int64

from thinkrank.cascade.options import STAGES
from thinkrank.stages.answers import Cost, Latent, Ranking, Thought

NO_THOUGHT = Thought("", np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.float32), "closed", 0.0)
"""Stands where others were thought about and this was not."""


@dataclass(frozen=True, eq=False)
class Recommendation:
    """Answer each of B requests with items, and tell how they were found.

    Attributes:
        ranking: the final items, best first, with the retriever's thoughts, the ranker's reasons and the re-ranker's
            latent thinking; all in rows of the cascade's catalogue.
        stages: what each stage that was asked answered, in their order, with its cost: `retrieve`, `rank`, `rerank`.
            Columns of a later one are places in the list that the stage before left it.
        degraded: what a budget made it leave out, in words, in the order in which it is left out.
    """

    ranking: Ranking
    stages: Mapping[str, Ranking]
    degraded: tuple[str, ...] = ()


def joined(parts: Sequence[Ranking]) -> Ranking:
    """Join the answers to some requests each; the shorter ones are filled up.

    Thoughts and reasons are kept if any part has them: empty ones stand where there were none.
    """
    width = max(part.items_BK.shape[1] for part in parts)

    def stacked(name: str, fill: float | int) -> np.ndarray:
        arrays = [getattr(part, name) for part in parts]
        return np.concatenate([_widened(array, width, fill) for array in arrays])

    thinks = any(part.thoughts is not None for part in parts)
    reasons = any(part.reasons is not None for part in parts)
    costs = [part.cost for part in parts if part.cost is not None]
    return Ranking(
        stacked("items_BK", -1),
        stacked("scores_BK", -np.inf),
        None if any(part.columns_BK is None for part in parts) else stacked("columns_BK", -1),
        thoughts=tuple(one for part in parts for one in part.thoughts or (NO_THOUGHT,) * len(part)) if thinks else None,
        reasons=tuple(row for part in parts for row in part.reasons or _no_reasons(part)) if reasons else None,
        latent=_joined_latent(parts, width),
        cost=Cost(sum(cost.seconds for cost in costs), sum(cost.tokens for cost in costs)) if costs else None,
    )


def picked(answer: Ranking, rows: Int64[np.ndarray, "_"]) -> Ranking:
    """Take the answers to some requests; what all of them cost is not shared out."""
    chosen: dict[str, Any] = {"cost": answer.cost}
    for field in fields(Ranking):
        value = getattr(answer, field.name)
        if isinstance(value, np.ndarray):
            chosen[field.name] = value[rows]
        elif isinstance(value, tuple):
            chosen[field.name] = tuple(value[row] for row in rows.tolist())
        elif isinstance(value, Latent):
            chosen[field.name] = Latent(*(getattr(value, one.name)[rows] for one in fields(Latent)))
    return Ranking(**chosen)


def longer(answer: Ranking, seconds: float) -> Ranking:
    """Return an answer that took so much longer."""
    cost = answer.cost or Cost(0.0)
    return replace(answer, cost=replace(cost, seconds=cost.seconds + seconds))


def nothing(k: int) -> Ranking:
    """Return the answer to no requests."""
    return Ranking(np.zeros((0, k), np.int32), np.zeros((0, k), np.float32))


def unasked(answer: Ranking) -> Ranking:
    """Return the answer of a stage that was asked about none of these requests."""
    items_BK = np.full(answer.items_BK.shape, -1, np.int32)
    return Ranking(items_BK, np.full(items_BK.shape, -np.inf, np.float32), items_BK)


def assembled(parts: Sequence[Recommendation], rows: Int64[np.ndarray, "B"] | None = None) -> Recommendation:
    """Join recommendations; `rows` says where each request of the whole stands in what is joined."""
    names = [name for name in STAGES if any(name in part.stages for part in parts)]
    stages = {name: joined([part.stages.get(name) or unasked(part.ranking) for part in parts]) for name in names}
    ranking = joined([part.ranking for part in parts])
    if rows is not None:
        ranking, stages = picked(ranking, rows), {name: picked(stage, rows) for name, stage in stages.items()}
    return Recommendation(ranking, stages, tuple(dict.fromkeys(words for part in parts for words in part.degraded)))


def _joined_latent(parts: Sequence[Ranking], width: int) -> Latent | None:
    """Join latent thinking; zeros where there was none."""
    if all(part.latent is None for part in parts):
        return None
    columns = []
    for field in fields(Latent):
        kind = np.int32 if field.name == "steps_BK" else np.float32
        arrays = [getattr(part.latent, field.name, np.zeros(part.items_BK.shape, kind)) for part in parts]
        columns.append(np.concatenate([_widened(array, width, 0) for array in arrays]))
    return Latent(*columns)


def _no_reasons(part: Ranking) -> tuple[tuple[Thought, ...], ...]:
    return tuple((NO_THOUGHT,) * int(count) for count in (part.items_BK >= 0).sum(axis=1))


def _widened(array: Any, width: int, fill: float | int) -> np.ndarray:
    return np.pad(array, [(0, 0), (0, width - array.shape[1])], constant_values=fill)
