"""The protocol of retrieval: rank the whole catalogue for every sample, and find where the true item stands.

Shape legend: B samples of a batch, S samples, I items, K length of the kept lists, M metrics.

Policy, the same for every system of a table:

- every item of the catalogue is a candidate; nothing is sampled (Krichene & Rendle 2020);
- items of a sample's history are left out if `filter_seen`. A target that stands in its own history (a repurchase) can
  then never be found: it counts as a miss and is reported as unreachable;
- ties are pessimistic (see `thinkrank.stages.target_ranks`); the kept lists, which only describe what is recommended,
  are in catalogue order where scores tie;
- figures are means over samples, so a user with many samples weighs more; intervals and tests draw whole users.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, Integer

from thinkrank import metrics
from thinkrank.data import History, Samples
from thinkrank.evaluate import beyond
from thinkrank.evaluate._figures import Figures
from thinkrank.evaluate.results import ResultRow
from thinkrank.stages.order import mask_seen, target_ranks, top_k

Scorer: TypeAlias = Callable[[Sequence[History]], Float32[np.ndarray, "B I"]]
"""Scores the whole catalogue for each of some histories, higher is better: the `scores` method of a retriever."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told after every batch: the system, samples done, samples in all."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What one system answered to the S samples.

    Attributes:
        ranks_S: 1-based place of the target; one more than the catalogue holds if it was left out of the ranking.
        items_SK: the best items, best first, K being the largest cut-off; -1 where fewer could be recommended.
        seconds: wall time spent in the scorer.
    """

    ranks_S: Int64[np.ndarray, "S"]
    items_SK: Int32[np.ndarray, "S K"]
    seconds: float


@dataclass(frozen=True, eq=False)
class Evaluation(Figures):
    """The answers of all systems to the same samples: every figure, interval and test follows without asking again.

    Attributes:
        answers: per system.
        users_S: whose sample each is; samples of one user are resampled together.
        unreachable_S: samples whose target was filtered out as already seen.
        cutoffs: the k of the metrics.
        num_items: size of the catalogue.
        filter_seen: whether items of the history were left out.
        candidates: what was ranked; None for the whole catalogue.
    """

    answers: Mapping[str, Answers]
    users_S: Integer[np.ndarray, "S"]
    unreachable_S: Bool[np.ndarray, "S"]
    cutoffs: tuple[int, ...]
    num_items: int
    filter_seen: bool
    candidates: str | None = None

    @property
    def systems(self) -> tuple[str, ...]:
        """What was evaluated."""
        return tuple(self.answers)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names `values` knows. With one target, recall equals hit and average precision equals mrr."""
        return (*(f"{name}@{k}" for name in ("hit", "ndcg") for k in self.cutoffs), "mrr")

    @property
    def policy(self) -> dict[str, str | int | bool]:
        """How the figures came about, for manifests and reports."""
        return {
            "candidates": self.candidates or f"whole catalogue ({self.num_items} items)",
            "seen items left out": self.filter_seen,
            "ties": "pessimistic",
            "mean over": "samples",
            "samples": len(self.users_S),
            "users": len(np.unique(self.users_S)),
            "unreachable targets": int(self.unreachable_S.sum()),
        }

    def values(self, system: str, metric: str) -> Float64[np.ndarray, "S"]:
        """A metric per sample.

        Raises:
            ValueError: if the system or the metric is unknown.
        """
        self._check_known(system, metric)
        ranks_S = self.answers[system].ranks_S
        if metric == "mrr":
            return np.where(ranks_S <= self.num_items, 1 / ranks_S, 0.0)
        name, k = metric.split("@")
        formula = {"hit": metrics.hit, "ndcg": metrics.ndcg}[name]
        # No list is longer than the catalogue, or a target that was left out would be found at its last place.
        return formula(metrics.relevance_from_ranks(ranks_S, min(int(k), self.num_items)), int(k))

    def where(self, chosen_S: Bool[np.ndarray, "S"]) -> "Evaluation":
        """The same answers to some of the samples only; coverage and the like are then of their lists.

        Args:
            chosen_S: which; `seconds` stay those of all.
        """
        answers = {
            system: Answers(answer.ranks_S[chosen_S], answer.items_SK[chosen_S], answer.seconds)
            for system, answer in self.answers.items()
        }
        return replace(
            self, answers=answers, users_S=self.users_S[chosen_S], unreachable_S=self.unreachable_S[chosen_S]
        )

    def rows(
        self,
        *,
        dataset: str,
        split: str,
        seeds: Mapping[str, Sequence[int]] | None = None,
        counts_I: Integer[np.ndarray, "I"] | None = None,
    ) -> list[ResultRow]:
        """Every figure as a result row: accuracy with 95 % intervals that resample users, then what is recommended.

        Args:
            dataset: name for the rows.
            split: name for the rows.
            seeds: per system, the seeds it was trained with; a system without an entry gets none.
            counts_I: training interactions per item; adds popularity and novelty figures to coverage.
        """
        rows = []
        for system in self.systems:
            seeds_of = tuple((seeds or {}).get(system, ()))
            rows += self._mean_rows(system, dataset=dataset, split=split, seeds=seeds_of)
            rows += [
                ResultRow(
                    dataset=dataset,
                    split=split,
                    system=system,
                    metric=metric,
                    value=value,
                    low=None,
                    high=None,
                    n=len(self.users_S),
                    seeds=seeds_of,
                )
                for metric, value in self.beyond_accuracy(system, counts_I).items()
            ]
        return rows

    def beyond_accuracy(self, system: str, counts_I: Integer[np.ndarray, "I"] | None = None) -> dict[str, float]:
        """What a system recommends at each cut-off: coverage, and with training counts its popularity and novelty.

        Nothing for candidate sets: what is in them was not the system's choice.
        """
        if self.candidates is not None:
            return {}
        items_SK = self.answers[system].items_SK
        figures = {f"coverage@{k}": beyond.coverage(items_SK, self.num_items, k) for k in self.cutoffs}
        if counts_I is not None:
            figures |= {f"popularity@{k}": beyond.popularity_percentile(items_SK, counts_I, k) for k in self.cutoffs}
            figures |= {f"arp@{k}": beyond.average_popularity(items_SK, counts_I, k) for k in self.cutoffs}
            figures |= {f"novelty@{k}": beyond.novelty(items_SK, counts_I, k) for k in self.cutoffs}
        return figures


def evaluate_retrieval(
    systems: Mapping[str, Scorer],
    samples: Samples,
    *,
    cutoffs: Sequence[int] = (5, 10, 20),
    filter_seen: bool = True,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Evaluation:
    """Rank the whole catalogue for every sample with every system.

    No more than one batch of scores is held at a time: 4 * batch_size * I bytes, three times over while it is sorted.

    Args:
        systems: scorers by the name they get in tables.
        samples: histories and the item that came next.
        cutoffs: the k of hit@k and ndcg@k.
        filter_seen: leave the items of a sample's history out of its ranking.
        batch_size: samples per call of a scorer.
        progress: told after every batch.

    Raises:
        ValueError: without systems, samples or cut-offs, with a cut-off below 1, or if a system answers with NaN or
            with another shape than that of its first batch; the message names the system.
    """
    cutoffs = tuple(sorted(set(cutoffs)))
    if not systems or not len(samples) or not cutoffs:
        raise ValueError("evaluation needs at least one system, one sample and one cut-off")
    if cutoffs[0] < 1:
        raise ValueError(f"cut-offs must be at least 1, got {cutoffs[0]}")
    histories, targets_S = samples.histories(), np.asarray(samples.targets)
    seen_S = np.array([target in history.items for target, history in zip(targets_S, histories, strict=True)])
    run = _Run(histories, targets_S, cutoffs[-1], filter_seen, batch_size, progress)
    answers, widths = {}, {}
    for name, scorer in systems.items():
        answers[name], widths[name] = run.ask(name, scorer)
    if len(set(widths.values())) > 1:
        raise ValueError(f"the systems score catalogues of different sizes: {widths}")
    return Evaluation(
        answers=answers,
        users_S=np.asarray(samples.users),
        unreachable_S=seen_S & filter_seen,
        cutoffs=cutoffs,
        num_items=next(iter(widths.values())),
        filter_seen=filter_seen,
    )


@dataclass(frozen=True)
class _Run:
    """The part of an evaluation that is the same for every system."""

    histories: Sequence[History]
    targets_S: Integer[np.ndarray, "S"]
    width: int
    filter_seen: bool
    batch_size: int
    progress: Progress | None

    def ask(self, name: str, scorer: Scorer) -> tuple[Answers, int]:
        """Answers of one system, and the size of the catalogue it scores."""
        ranks, items, seconds, num_items = [], [], 0.0, None
        total = len(self.histories)
        for start in range(0, total, self.batch_size):
            histories = self.histories[start : start + self.batch_size]
            began = time.perf_counter()
            scores_BI = scorer(histories)
            seconds += time.perf_counter() - began
            num_items = num_items or scores_BI.shape[-1]
            if scores_BI.shape != (len(histories), num_items):
                raise ValueError(f"{name}: scores have shape {scores_BI.shape}, not {(len(histories), num_items)}")
            if np.isnan(scores_BI).any():
                raise ValueError(f"{name}: scores hold NaN, so they have no order")
            if self.filter_seen:
                scores_BI = mask_seen(scores_BI, histories)
            ranks.append(target_ranks(scores_BI, self.targets_S[start : start + self.batch_size]))
            items.append(top_k(scores_BI, histories, self.width, filter_seen=False).items_BK)
            if self.progress is not None:
                self.progress(name, min(start + self.batch_size, total), total)
        assert num_items is not None  # noqa: S101 - there is at least one sample
        return Answers(np.concatenate(ranks), np.concatenate(items), seconds), num_items
