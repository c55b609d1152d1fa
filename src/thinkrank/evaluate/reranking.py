"""The protocol of re-ranking: order the same displayed lists with every system, and read the feedback along.

Policy, the same for every system of a table:

- a system orders all candidates of every list, and none is added;
- relevance is one signal of the log, what users did with the order that was displayed to them. It says nothing of what
  they would have done with another one;
- a list without any feedback scores 0 in every metric but AUC, which says nothing of it, nor of a list whose every
  candidate got feedback. Its mean leaves those out;
- NDCG has the gain 2^y - 1 and takes as ideal the best order of the whole list;
- figures are means over lists, so a user with many lists weighs more; intervals and tests draw whole users.

Shape legend: L lists, N candidates, K places.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Integer

from thinkrank import metrics
from thinkrank.data import ImpressionDataset
from thinkrank.evaluate._figures import Figures
from thinkrank.evaluate.results import ResultRow
from thinkrank.metrics import Divisor
from thinkrank.stages.protocols import Reranker


@dataclass(frozen=True, eq=False)
class ListEvaluation(Figures):
    """The orders of all systems: every figure, interval and test follows without asking again.

    Attributes:
        columns_LN: per system, where each item of the new order stood in the displayed one; -1 after a list's end.
        seconds: per system, wall time spent in it.
        feedback_LN: what is relevant, in displayed order.
        mask_LN: where there are candidates.
        users_S: whose list it is.
        cutoffs: the k of the metrics.
        map_divisor: of average precision.
    """

    columns_LN: Mapping[str, Int32[np.ndarray, "L N"]]
    seconds: Mapping[str, float]
    feedback_LN: Float32[np.ndarray, "L N"]
    mask_LN: Bool[np.ndarray, "L N"]
    users_S: Integer[np.ndarray, "L"]
    cutoffs: tuple[int, ...]
    map_divisor: Divisor

    @property
    def systems(self) -> tuple[str, ...]:
        """What was evaluated."""
        return tuple(self.columns_LN)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names `values` knows."""
        return (*(f"{name}@{k}" for name in ("ndcg", "map", "hit") for k in self.cutoffs), "mrr", "auc")

    @property
    def policy(self) -> dict[str, str | int]:
        """How the figures came about, for manifests and reports."""
        return {
            "candidates": "the displayed list",
            "ndcg gain": "2^y - 1",
            "map divides by": {"relevant": "all relevant items", "found": "relevant items in the first k"}[
                self.map_divisor
            ],
            "mean over": "lists",
            "lists": len(self.users_S),
            "lists without feedback": int((~(self.feedback_LN > 0).any(axis=1)).sum()),
            "users": len(np.unique(self.users_S)),
        }

    def relevance(self, system: str) -> Float32[np.ndarray, "L N"]:
        """The feedback in a system's order, 0 after a list's end."""
        columns_LN = self.columns_LN[system]
        ordered_LN = np.take_along_axis(self.feedback_LN, np.maximum(columns_LN, 0), axis=1)
        return np.where(columns_LN >= 0, ordered_LN, np.float32(0))

    def values(self, system: str, metric: str) -> Float64[np.ndarray, "L"]:
        """A metric per list; AUC is NaN where there is no pair to order.

        Raises:
            ValueError: if the system or the metric is unknown.
        """
        self._check_known(system, metric)
        relevance_LN = self.relevance(system)
        name, _, k = metric.partition("@")
        match name:
            case "ndcg":
                return metrics.ndcg(relevance_LN, int(k), gain="exponential")
            case "map":
                return metrics.average_precision(relevance_LN, int(k), divisor=self.map_divisor)
            case "hit":
                return metrics.hit(relevance_LN, int(k))
            case "mrr":
                return metrics.reciprocal_rank(relevance_LN)
        places_LN = np.broadcast_to(-np.arange(relevance_LN.shape[1]), relevance_LN.shape)
        return metrics.auc(places_LN, relevance_LN, self.columns_LN[system] >= 0)

    def rows(self, *, dataset: str, split: str, seeds: Mapping[str, Sequence[int]] | None = None) -> list[ResultRow]:
        """Every figure as a result row, with 95 % intervals that resample users.

        Args:
            dataset: name for the rows.
            split: name for the rows.
            seeds: per system, the seeds it was trained with; a system without an entry gets none.
        """
        return [
            row
            for system in self.systems
            for row in self._mean_rows(system, dataset=dataset, split=split, seeds=tuple((seeds or {}).get(system, ())))
        ]


def evaluate_lists(
    systems: Mapping[str, Reranker],
    lists: ImpressionDataset,
    *,
    cutoffs: Sequence[int] = (1, 5, 10),
    signal: str | None = None,
    map_divisor: Divisor = "relevant",
) -> ListEvaluation:
    """Let every system order every list.

    Args:
        systems: by name.
        lists: the displayed lists.
        cutoffs: the k of NDCG, MAP and hit.
        signal: what is relevant; None for the data set's first.
        map_divisor: see `metrics.average_precision`.

    Raises:
        ValueError: without systems, lists or cut-offs, with a cut-off below 1, or if a system's answer is not an order
            of all candidates; the message names the system.
        ThinkrankError: if there is no such signal.
    """
    cutoffs = tuple(sorted(set(cutoffs)))
    if not systems or not len(lists) or not cutoffs:
        raise ValueError("evaluation needs at least one system, one list and one cut-off")
    if cutoffs[0] < 1:
        raise ValueError(f"cut-offs must be at least 1, got {cutoffs[0]}")
    columns_LN, seconds = {}, {}
    for name, system in systems.items():
        began = time.perf_counter()
        columns_LN[name] = system.rerank(lists, lists.items_LN.shape[1]).columns_BK
        seconds[name] = time.perf_counter() - began
        _check_order(name, columns_LN[name], lists.mask_LN)
    return ListEvaluation(
        columns_LN=columns_LN,
        seconds=seconds,
        feedback_LN=lists.feedback(signal),
        mask_LN=lists.mask_LN,
        users_S=lists.users_L,
        cutoffs=cutoffs,
        map_divisor=map_divisor,
    )


def _check_order(name: str, columns_LN: Int32[np.ndarray, "L N"], mask_LN: Bool[np.ndarray, "L N"]) -> None:
    """A row must hold every place of its list once, then -1."""
    expected_LN = np.where(mask_LN, np.arange(mask_LN.shape[1]), mask_LN.shape[1])
    found_LN = np.where(columns_LN >= 0, columns_LN, mask_LN.shape[1])
    wrong_L = (np.sort(found_LN, axis=1) != expected_LN).any(axis=1) | ((columns_LN >= 0) != mask_LN).any(axis=1)
    if wrong_L.any():
        raise ValueError(f"{name}: the answer to list {int(wrong_L.argmax())} is not an order of its candidates")
