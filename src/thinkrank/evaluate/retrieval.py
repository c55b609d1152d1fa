"""The protocol of retrieval: find where the true item of every sample stands in the whole catalogue.

Shape legend: B samples of a batch, S samples, I items, K length of the kept lists, M metrics.

Policy, the same for every system of a table:

- every item of the catalogue is a candidate; nothing is sampled (Krichene & Rendle 2020);
- a system answers requests, which do not hold what came next; it then tells the place of that item, and what it tells
  must fit what it answered;
- items of a sample's history are left out if `filter_seen`. A target that stands in its own history (a repurchase) can
  then never be found: it counts as a miss and is reported as unreachable;
- ties are pessimistic (see `thinkrank.stages.target_ranks`); the kept lists, which only describe what is recommended,
  are in catalogue order where scores tie;
- figures are means over samples, so a user with many samples weighs more; intervals and tests draw whole users.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64, Integer

from thinkrank import metrics
from thinkrank.data.requests import Requests
from thinkrank.data.splits import Samples
from thinkrank.evaluate import beyond
from thinkrank.evaluate._asking import checked_cutoffs, detached, named, tokens_of
from thinkrank.evaluate._figures import Figures
from thinkrank.evaluate.results import TIES, ResultRow, Ties
from thinkrank.stages.answers import Cost, Ranking
from thinkrank.stages.checks import check_items
from thinkrank.stages.protocols import Retriever, answer_with_ranks
from thinkrank.training.progress import Advance, Progress, no_progress

SLACK = 1e-3
"""Share of an answer's range of scores by which two of them must differ before their order counts as told."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Hold what one system answered to the S samples.

    Attributes:
        ranks_S: 1-based place of the target; one more than the catalogue holds if it was left out of the ranking.
        items_SK: the best items, best first, K being the largest cut-off; -1 where fewer could be recommended.
        cost: wall time spent in the system, and the tokens it wrote where its answers tell.
        ties_S: how many others have the target's score, all of them counted before it in `ranks_S`. Given, figures are
            expected values over random orders of what ties; None leaves them pessimistic.
    """

    ranks_S: Int64[np.ndarray, "S"]
    items_SK: Int32[np.ndarray, "S K"]
    cost: Cost
    ties_S: Int64[np.ndarray, "S"] | None = None


@dataclass(frozen=True, eq=False)
class Evaluation(Figures):
    """Hold the answers of all systems to the same samples: every figure and test follows without asking again.

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
        """Return what was evaluated."""
        return tuple(self.answers)

    @property
    def cost(self) -> dict[str, Cost]:
        """Return what each system's answers cost."""
        return {system: answers.cost for system, answers in self.answers.items()}

    @property
    def ties(self) -> Ties:
        """Return how equal scores are judged."""
        return "pessimistic" if any(answer.ties_S is None for answer in self.answers.values()) else "expected"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the names `values` knows. With one target, recall equals hit and average precision equals mrr."""
        return (*(f"{name}@{k}" for name in ("hit", "ndcg") for k in self.cutoffs), "mrr")

    @property
    def policy(self) -> dict[str, str | int | bool]:
        """Tell how the figures came about, for manifests and reports."""
        return {
            "candidates": self.candidates or f"whole catalogue ({self.num_items} items)",
            "seen items left out": self.filter_seen,
            "ties": TIES[self.ties],
            "mean over": "samples",
            "samples": len(self.users_S),
            "users": len(np.unique(self.users_S)),
            "unreachable targets": int(self.unreachable_S.sum()),
        }

    def values(self, system: str, metric: str) -> Float64[np.ndarray, "S"]:
        """Return a metric per sample."""
        self._check_known(system, metric)
        ranks_S, ties_S = self.answers[system].ranks_S, self.answers[system].ties_S
        name, _, k = metric.partition("@")
        formula = {"hit": metrics.hit, "ndcg": metrics.ndcg, "mrr": metrics.reciprocal_rank}[name]
        cut = int(k) if k else None
        if ties_S is not None:
            width = int(ranks_S.max())
            tied_SN = metrics.ties_from_ranks(ranks_S, ties_S, width)
            found_S = ~self.unreachable_S
            return formula(metrics.relevance_from_ranks(ranks_S, width), cut, tied_BN=tied_SN) * found_S
        if cut is None:
            return np.where(ranks_S <= self.num_items, 1 / ranks_S, 0.0)
        # No list is longer than the catalogue, or a target that was left out would be found at its last place.
        return formula(metrics.relevance_from_ranks(ranks_S, min(cut, self.num_items)), cut)

    def where(self, chosen_S: Bool[np.ndarray, "S"]) -> "Evaluation":
        """Keep the answers to some of the samples only; coverage and the like are then of their lists.

        The cost stays that of all.
        """
        answers = {
            system: replace(
                answer,
                ranks_S=answer.ranks_S[chosen_S],
                items_SK=answer.items_SK[chosen_S],
                ties_S=None if answer.ties_S is None else answer.ties_S[chosen_S],
            )
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
        """Return every figure as a row: accuracy with 95 % intervals that resample users, then what is recommended.

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
            row = partial(ResultRow, dataset=dataset, split=split, system=system, seeds=seeds_of)
            rows += [
                row(metric=metric, value=value, low=None, high=None, n=len(self.users_S))
                for metric, value in self.beyond_accuracy(system, counts_I).items()
            ]
        return rows

    def beyond_accuracy(self, system: str, counts_I: Integer[np.ndarray, "I"] | None = None) -> dict[str, float]:
        """Tell what a system recommends at each cut-off: coverage and, with training counts, popularity and novelty.

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
    systems: Mapping[str, Retriever],
    samples: Samples,
    *,
    cutoffs: Sequence[int] = (5, 10, 20),
    filter_seen: bool | None = None,
    batch_size: int = 256,
    progress: Progress = no_progress,
) -> Evaluation:
    """Find the place of every sample's target with every system.

    Args:
        systems: retrievers by the name they get in tables. One that is to answer in another way than it is configured
            is given as `thinkrank.stages.Configured`.
        samples: histories and the item that came next.
        cutoffs: the k of hit@k and ndcg@k.
        filter_seen: leave the items of a sample's history out of its ranking; None for what the data set says (see
            `Dataset.repeats`).
        batch_size: samples per question.
        progress: shows the samples of all systems.

    Raises:
        ValueError: without systems, samples or cut-offs, with a cut-off below 1, or if an answer has another shape
            than asked for, holds NaN or what is not in the catalogue, or does not fit the place told; the message
            names the system.
    """
    cutoffs = checked_cutoffs(systems, len(samples), "sample", cutoffs)
    filter_seen = not samples.dataset.repeats if filter_seen is None else filter_seen
    requests, targets_S = samples.requests(), np.asarray(samples.targets)
    for name, system in systems.items():
        with named(name):
            check_items(system, samples.dataset.catalogue)
    asking = _Asking(requests, targets_S, len(samples.dataset.catalogue), cutoffs[-1], filter_seen, batch_size)
    with progress("evaluating", len(samples) * len(systems)) as advance:
        answers = asking.ask(systems, advance)
    return Evaluation(
        answers=answers,
        users_S=np.asarray(samples.users),
        unreachable_S=samples.seen_S if filter_seen else np.zeros(len(samples), bool),
        cutoffs=cutoffs,
        num_items=asking.num_items,
        filter_seen=filter_seen,
    )


@dataclass(frozen=True)
class _Asking:
    """The part of an evaluation that is the same for every system."""

    requests: Requests
    targets_S: Integer[np.ndarray, "S"]
    num_items: int
    width: int
    filter_seen: bool
    batch_size: int

    def ask(self, systems: Mapping[str, Retriever], advance: Advance) -> dict[str, Answers]:
        """Put the samples to all systems, batch by batch in turn, so that the first batch tells what all will take."""
        found: dict[str, list[tuple[Ranking, Int64[np.ndarray, B], float]]] = {name: [] for name in systems}
        for part, batch in self.requests.batches(self.batch_size):
            requests, targets_B = detached(batch), self.targets_S[part]
            for name, system in systems.items():
                began = time.perf_counter()
                with named(name):
                    ranking, ranks_B = answer_with_ranks(
                        system, requests, self.width, targets_B, filter_seen=self.filter_seen
                    )
                    seconds = time.perf_counter() - began
                    self._check(ranking, ranks_B, targets_B)
                found[name].append((ranking, ranks_B, seconds))
                advance(len(requests), note=name)
        return {
            name: Answers(
                np.concatenate([ranks_B for _, ranks_B, _ in parts]),
                np.concatenate([ranking.items_BK for ranking, _, _ in parts]),
                Cost(sum(seconds for _, _, seconds in parts), sum(tokens_of(ranking) for ranking, _, _ in parts)),
            )
            for name, parts in found.items()
        }

    def _check(
        self, ranking: Ranking, ranks_B: Integer[np.ndarray, "..."], targets_B: Integer[np.ndarray, "B"]
    ) -> None:
        """Refuse answers that cannot be judged."""
        shape, items_BK = (len(targets_B), self.width), ranking.items_BK
        least = min(self.width, self.num_items)
        if len(items_BK) != shape[0] or not least <= items_BK.shape[1] <= self.width:
            raise ValueError(f"the answer has shape {items_BK.shape}, not {shape}")
        if np.isnan(ranking.scores_BK).any():
            raise ValueError("scores hold NaN, so they have no order")
        if items_BK.min() < -1 or items_BK.max() >= self.num_items:
            raise ValueError(f"the answer holds items that are not of the catalogue's {self.num_items}")
        if ranks_B.shape != shape[:1]:
            raise ValueError(f"the places of targets have shape {ranks_B.shape}, not {shape[:1]}")
        if ranks_B.min() < 1 or ranks_B.max() > self.num_items + 1:
            raise ValueError(f"the places of targets must be 1 to {self.num_items + 1}, the last for one left out")
        early_B = ranks_B <= _num_before(ranking, targets_B)
        if early_B.any():
            at = int(early_B.argmax())
            raise ValueError(f"it tells place {ranks_B[at]} of a target that its answer puts behind more items")


def _num_before(ranking: Ranking, targets_B: Integer[np.ndarray, "B"]) -> Int64[np.ndarray, "B"]:
    """Count the items of each answer that clearly stand before the target, which is in it or behind its end."""
    scores_BK = ranking.scores_BK.astype(np.float64)
    is_target_BK = ranking.items_BK == targets_B[:, None]
    place_B1 = np.where(is_target_BK.any(axis=1), is_target_BK.argmax(axis=1), -1)[:, None]
    target_B1 = np.take_along_axis(scores_BK, place_B1, axis=1)  # behind the end: at most the last item's
    finite_BK = np.isfinite(scores_BK)
    highest_B1 = scores_BK.max(axis=1, keepdims=True, initial=-np.inf, where=finite_BK)
    lowest_B1 = scores_BK.min(axis=1, keepdims=True, initial=np.inf, where=finite_BK)
    margin_B1 = np.where(np.isfinite(target_B1), SLACK * (highest_B1 - lowest_B1), 0.0)
    return np.asarray(np.count_nonzero(scores_BK > target_B1 + margin_B1, axis=1))
