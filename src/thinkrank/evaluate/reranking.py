"""The protocol of re-ranking: order the same displayed lists with every system, and read the feedback along.

Policy, the same for every system of a table:

- a system sees requests and candidates, never the feedback;
- a system orders all candidates of every list, and none is added;
- relevance is one signal of the log, what users did with the order that was displayed to them. It says nothing of what
  they would have done with another one. Where the log has propensities, that is estimated as well: ips@k, snips@k and
  dr@k are the feedback that the first k places would have got (`thinkrank.evaluate.off_policy`). For the order that was
  displayed it is what they did get;
- a list without any feedback scores 0 in every metric but AUC, which says nothing of it, nor of a list whose every
  candidate got feedback. Its mean leaves those out;
- where an answer says that scores tie, figures are exact expected values over all orders of what ties, the displayed
  order is no tie-break; an answer that does not say so is taken in its order;
- NDCG has the gain 2^y - 1 and takes as ideal the best order of the whole list;
- figures are means over lists, so a user with many lists weighs more; intervals and tests draw whole users.

Shape legend: L lists, N candidates, K places.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Integer

from thinkrank import metrics
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.evaluate import off_policy
from thinkrank.evaluate._asking import checked_cutoffs, detached, named, ordered_columns, tokens_of
from thinkrank.evaluate._figures import Figures
from thinkrank.evaluate.results import TIES, ResultRow, Ties
from thinkrank.metrics import Divisor
from thinkrank.stages.answers import Cost, Ranking
from thinkrank.stages.protocols import Reranker
from thinkrank.training.progress import Progress, no_progress

_OFF_POLICY = ("ips", "snips", "dr")


@dataclass(frozen=True, eq=False)
class RerankingEvaluation(Figures):
    """Hold the orders of all systems: every figure, interval and test follows without asking again.

    Attributes:
        columns_LN: per system, where each item of the new order stood in the displayed one; -1 after a list's end.
        cost: per system, wall time spent in it, and the tokens it wrote where its answer tells.
        signal: what is relevant.
        feedback_LN: that signal, in displayed order.
        mask_LN: where there are candidates.
        users_S: whose list it is.
        cutoffs: the k of the metrics.
        map_divisor: of average precision.
        tied_LN: per system, which places have the score of the one before; None where the order is the answer.
        items_LN: what was displayed, catalogue rows.
        propensities_LN: with what probability an item stood where it did; None if nobody logged it.
        max_weight: above which importance weights are clipped.
    """

    columns_LN: Mapping[str, Int32[np.ndarray, "L N"]]
    cost: Mapping[str, Cost]
    signal: str
    feedback_LN: Float32[np.ndarray, "L N"]
    mask_LN: Bool[np.ndarray, "L N"]
    users_S: Integer[np.ndarray, "L"]
    cutoffs: tuple[int, ...]
    map_divisor: Divisor
    tied_LN: Mapping[str, Bool[np.ndarray, "L N"] | None] = field(default_factory=dict)
    items_LN: Int32[np.ndarray, "L N"] | None = None
    propensities_LN: Float32[np.ndarray, "L N"] | None = None
    max_weight: float = off_policy.MAX_WEIGHT

    @property
    def systems(self) -> tuple[str, ...]:
        """Return what was evaluated."""
        return tuple(self.columns_LN)

    @property
    def ties(self) -> Ties:
        """Return how equal scores are judged."""
        return "expected"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the names `values` knows."""
        names = ("ndcg", "map", "hit", *(() if self.propensities_LN is None else _OFF_POLICY))
        return (*(f"{name}@{k}" for name in names for k in self.cutoffs), "mrr", "auc")

    @property
    def policy(self) -> dict[str, str | int | bool]:
        """Tell how the figures came about, for manifests and reports."""
        return {
            "candidates": "the displayed list",
            "ndcg gain": "2^y - 1",
            "map divides by": {"relevant": "all relevant items", "found": "relevant items in the first k"}[
                self.map_divisor
            ],
            "ties": TIES["expected"],
            "mean over": "lists",
            "lists": len(self.users_S),
            "lists without feedback": int((~(self.feedback_LN > 0).any(axis=1)).sum()),
            "users": len(np.unique(self.users_S)),
            **self._off_policy_told(),
        }

    @property
    def protocol(self) -> dict[str, Any]:
        """Return the policy, what is relevant, and what stands behind intervals and tests."""
        return {"relevant": self.signal, **super().protocol}

    def relevance(self, system: str) -> Float32[np.ndarray, "L N"]:
        """Return the feedback in a system's order, 0 after a list's end."""
        columns_LN = self.columns_LN[system]
        ordered_LN = np.take_along_axis(self.feedback_LN, np.maximum(columns_LN, 0), axis=1)
        return np.where(columns_LN >= 0, ordered_LN, np.float32(0))

    def values(self, system: str, metric: str) -> Float64[np.ndarray, "L"]:
        """Return a metric per list; AUC is NaN where there is no pair to order."""
        self._check_known(system, metric)
        name, _, k = metric.partition("@")
        if name in _OFF_POLICY:
            return self._estimated(system, name, int(k))
        relevance_LN, tied_LN = self.relevance(system), self.tied_LN.get(system)
        match name:
            case "ndcg":
                return metrics.ndcg(relevance_LN, int(k), gain=metrics.LIST_GAIN, tied_BN=tied_LN)
            case "map":
                return metrics.average_precision(relevance_LN, int(k), divisor=self.map_divisor, tied_BN=tied_LN)
            case "hit":
                return metrics.hit(relevance_LN, int(k), tied_BN=tied_LN)
            case "mrr":
                return metrics.reciprocal_rank(relevance_LN, tied_BN=tied_LN)
        apart_LN = np.ones(relevance_LN.shape, dtype=np.bool_) if tied_LN is None else ~tied_LN
        return metrics.auc(-np.cumsum(apart_LN, axis=1), relevance_LN, self.columns_LN[system] >= 0)

    def _estimated(self, system: str, name: str, k: int) -> Float64[np.ndarray, "L"]:
        """Estimate per list the feedback that a system's first k places would have got."""
        assert self.propensities_LN is not None and self.items_LN is not None  # noqa: S101, PT018 - else no such metric
        mask_LK, rewards_LK = self.mask_LN[:, :k], self.feedback_LN[:, :k].astype(np.float64)
        columns_LK, places_K = self.columns_LN[system][:, :k], np.arange(self.mask_LN.shape[1])
        if (np.where(self.mask_LN, self.columns_LN[system], places_K) == places_K).all():
            return np.asarray(rewards_LK.sum(axis=1))  # what was displayed: nothing is to be estimated
        same_LK = (columns_LK == places_K[:k]) & mask_LK
        weights_LK = off_policy.importance_weights(same_LK, self.propensities_LN[:, :k], max_weight=self.max_weight)
        if name == "ips":
            return off_policy.ips(rewards_LK, weights_LK)
        if name == "snips":
            return off_policy.self_normalised(rewards_LK, weights_LK, mask_LK)
        chosen_LK = np.where(columns_LK >= 0, np.take_along_axis(self.items_LN, np.maximum(columns_LK, 0), axis=1), -1)
        known = self.items_LN[:, :k], rewards_LK, np.asarray(self.users_S)
        shown_q_LK, chosen_q_LK = (off_policy.expected_rewards(*known, asked) for asked in (known[0], chosen_LK))
        return off_policy.doubly_robust(rewards_LK, weights_LK, shown_q_LK, chosen_q_LK)

    def _off_policy_told(self) -> dict[str, str]:
        if self.propensities_LN is None:
            return {}
        clipped = (self.propensities_LN[self.mask_LN] < 1 / self.max_weight).mean()
        told = f"{self.signal}s of the first k places, by item and place; weights clipped at {self.max_weight:g}"
        return {"ips, snips, dr": f"{told} ({clipped:.1%} of the slots)"}

    def rows(self, *, dataset: str, split: str, seeds: Mapping[str, Sequence[int]] | None = None) -> list[ResultRow]:
        """Return every figure as a result row, with 95 % intervals that resample users.

        `seeds` are those each system was trained with; a system without an entry gets none.
        """
        return [
            row
            for system in self.systems
            for row in self._mean_rows(system, dataset=dataset, split=split, seeds=tuple((seeds or {}).get(system, ())))
        ]


def evaluate_reranking(
    systems: Mapping[str, Reranker | Ranking],
    lists: ImpressionDataset,
    *,
    cutoffs: Sequence[int] = (1, 5, 10),
    signal: str | None = None,
    map_divisor: Divisor = "relevant",
    max_weight: float = off_policy.MAX_WEIGHT,
    progress: Progress = no_progress,
) -> RerankingEvaluation:
    """Let every system order every list, and read the feedback along.

    Args:
        systems: by name: a re-ranker, or an answer made beforehand, as that of an oracle which has to see feedback.
        lists: the displayed lists. Systems see who asks and what was displayed.
        cutoffs: the k of NDCG, MAP and hit.
        signal: what is relevant; None for the data set's first.
        map_divisor: see `metrics.average_precision`.
        max_weight: above which importance weights are clipped, where propensities were logged.
        progress: shows the lists of all systems.

    Raises:
        ValueError: without systems, lists or cut-offs, with a cut-off below 1, or if an answer is not an order of all
            candidates; the message names the system.
        ThinkrankError: if there is no such signal.
    """
    cutoffs = checked_cutoffs(systems, len(lists), "list", cutoffs)
    feedback_LN = lists.feedback(signal)
    requests, candidates = detached(lists.requests), lists.candidates
    columns_LN, tied_LN, cost = {}, {}, {}
    with progress("evaluating", len(lists) * len(systems)) as advance:
        for name, system in systems.items():
            with named(name):
                if isinstance(system, Ranking):
                    ranking, cost[name] = system, system.cost or Cost(0.0)
                else:
                    began = time.perf_counter()
                    ranking = system.rerank(requests, candidates, candidates.items_BN.shape[1])
                    cost[name] = Cost(time.perf_counter() - began, tokens_of(ranking))
                columns_LN[name], tied_LN[name] = ordered_columns(ranking, candidates), ranking.tied_BK
            advance(len(lists), note=name)
    return RerankingEvaluation(
        columns_LN=columns_LN,
        cost=cost,
        signal=lists.signals[0] if signal is None else signal,
        feedback_LN=feedback_LN,
        mask_LN=lists.mask_LN,
        users_S=lists.users_L,
        cutoffs=cutoffs,
        map_divisor=map_divisor,
        tied_LN=tied_LN,
        items_LN=lists.items_LN,
        propensities_LN=lists.propensities_LN,
        max_weight=max_weight,
    )
