"""The protocols by which stages are known.

Shape legend: B users (histories) or displayed lists, I items of the catalogue, K length of the answer, T tokens.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int32

from thinkrank.data import History, ImpressionDataset
from thinkrank.stages.answers import Ranking, Slate


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
