"""What every stage answers with, and the protocol by which evaluation and the cascade know a stage.

Shape legend: B users (histories), I items of the catalogue, K length of the answer, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float32, Int32

from thinkrank.data import History

FinishReason = Literal["closed", "end_of_turn", "length"]
"""Why a thought ended: it wrote its closing tag, it ended its turn, or its token budget ran out."""


@dataclass(frozen=True)
class Thought:
    """What a model wrote before it answered.

    Attributes:
        text: the thought, without its closing tag.
        token_ids: the sampled tokens, closing tag included where the model wrote it.
        logprobs: per token, natural log of its probability under the distribution it was sampled from.
        entropies: per token, in nats, of the model's own (untempered) next-token distribution.
        finish_reason: why it ended.
        seconds: wall time of the batch it was written in, divided by the batch's size.
    """

    text: str
    token_ids: Int32[np.ndarray, "T"]
    logprobs: Float32[np.ndarray, "T"]
    entropies: Float32[np.ndarray, "T"]
    finish_reason: FinishReason
    seconds: float


@dataclass(frozen=True)
class Ranking:
    """The best items for each of B histories, best first.

    Attributes:
        items_BK: catalogue rows; -1 where fewer than K items could be recommended.
        scores_BK: the scores the items were sorted by; -inf beside each -1.
        thoughts: one per history, or None if the stage did not think.
    """

    items_BK: Int32[np.ndarray, "B K"]
    scores_BK: Float32[np.ndarray, "B K"]
    thoughts: tuple[Thought, ...] | None = None


class Retriever(Protocol):
    """A stage that scores the whole catalogue for a history."""

    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "B I"]:
        """Score every catalogue item for every history; higher is better, any unit."""
        ...

    def retrieve(self, histories: Sequence[History], k: int, *, filter_seen: bool = True) -> Ranking:
        """Answer each history with its k best items."""
        ...


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
