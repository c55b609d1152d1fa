"""What every stage answers with, how scores become answers, and the protocol by which a stage is known.

Shape legend: B users (histories) or displayed lists, I items of the catalogue, K length of the answer, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int32, Int64, Integer

from thinkrank.data import History, ImpressionDataset
from thinkrank.errors import ThinkrankError
from thinkrank.language.options import FinishReason


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
        thoughts: one per history, or None if the stage did not think about histories.
        reasons: for each history one thought per answered item, in the answer's order; None if the stage did not think
            about pairs.
    """

    items_BK: Int32[np.ndarray, "B K"]
    scores_BK: Float32[np.ndarray, "B K"]
    thoughts: tuple[Thought, ...] | None = None
    reasons: tuple[tuple[Thought, ...], ...] | None = None


@dataclass(frozen=True)
class Slate:
    """The final list for each of B displayed lists, first place first.

    Attributes:
        items_BK: catalogue rows; -1 where a list had fewer than K candidates.
        columns_BK: where each item stood among the candidates, from 0; -1 beside each -1.
        scores_BK: what each item was put there by: its score, or the log-probability of choosing it there among what
            was left; -inf beside each -1.
        entropies_before_BK: of each choice before thinking, in nats; None if the stage does not choose place by place.
        entropies_after_BK: the same after thinking; equal where nothing was thought.
        thoughts_BK: how many latent thoughts preceded each choice; None if the stage does not think.
    """

    items_BK: Int32[np.ndarray, "B K"]
    columns_BK: Int32[np.ndarray, "B K"]
    scores_BK: Float32[np.ndarray, "B K"]
    entropies_before_BK: Float32[np.ndarray, "B K"] | None = None
    entropies_after_BK: Float32[np.ndarray, "B K"] | None = None
    thoughts_BK: Int32[np.ndarray, "B K"] | None = None


@runtime_checkable
class Reranker(Protocol):
    """A stage that orders displayed lists anew."""

    def rerank(self, lists: ImpressionDataset, k: int) -> Slate:
        """Answer each list with its k best candidates in order; their feedback is not looked at."""
        ...


class Retriever(Protocol):
    """A stage that scores the whole catalogue for a history."""

    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "B I"]:
        """Score every catalogue item for every history; higher is better, any unit."""
        ...

    def retrieve(self, histories: Sequence[History], k: int, *, filter_seen: bool = True) -> Ranking:
        """Answer each history with its k best items."""
        ...


class Ranker(Protocol):
    """A stage that scores some candidates for a history."""

    def candidate_scores(
        self, histories: Sequence[History], candidates_BN: Int32[np.ndarray, "B N"]
    ) -> Float32[np.ndarray, "B N"]:
        """Score each history's candidates (catalogue rows, -1 pads); higher is better, any unit; padding has -inf."""
        ...

    def rank(self, histories: Sequence[History], candidates_BN: Int32[np.ndarray, "B N"]) -> Ranking:
        """Sort each history's candidates."""
        ...


def check_candidates(candidates_BN: Int32[np.ndarray, "B N"], num_items: int) -> None:
    """Refuse candidates that are neither catalogue rows nor padding, and lists that name an item twice.

    Raises:
        ThinkrankError: naming the first such list and item.
    """
    wrong = np.argwhere((candidates_BN < -1) | (candidates_BN >= num_items))
    if len(wrong):
        row, place = wrong[0]
        raise ThinkrankError(
            f"list {row} holds item {candidates_BN[row, place]}; the catalogue has rows 0 to {num_items - 1}"
        )
    for index, row in enumerate(candidates_BN):
        items, counts = np.unique(row[row >= 0], return_counts=True)
        if (counts > 1).any():
            raise ThinkrankError(f"list {index} holds item {items[counts > 1][0]} twice")


def check_histories(histories: Sequence[History], num_items: int) -> None:
    """Refuse histories with items that are not in the catalogue.

    Raises:
        ThinkrankError: naming the first such history and item.
    """
    for index, history in enumerate(histories):
        if len(history) and (history.items.min() < 0 or history.items.max() >= num_items):
            item = next(int(item) for item in history.items if not 0 <= item < num_items)
            raise ThinkrankError(f"history {index} holds item {item}; the catalogue has rows 0 to {num_items - 1}")


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
