"""Lists for the training of later stages, on which no stage before has seen what was chosen.

The parts of a retriever have learnt from the train part; what is fitted on the validation part, such as the weights of
a fusion, has to be fitted anew for every fold, without the users whose lists are made. Folds are of users: the choices
of one person resemble each other more than those of others, so weights that were fitted on some of them know something
of the rest; and the validation part is too short to be cut in time once more. A stage that learnt from its
predecessor's memory would trust it more than it can be trusted when it answers.

Shape legend: S samples, N candidates.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from thinkrank.cascade.model import Cascade
from thinkrank.cascade.options import Blend, StageGain
from thinkrank.cascade.training_data import lists_of
from thinkrank.data.candidates import Candidates
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.requests import Requests
from thinkrank.data.splits import Samples
from thinkrank.errors import ThinkrankError
from thinkrank.metrics import mean_errors, ndcg, relevance_from_ranks
from thinkrank.retrieve.fusion_weights import conditional_logit

_CUTOFF = 10
_RIDGE = 1e-4


def folds_of(samples: Samples, count: int, *, seed: int = 0) -> Int64[np.ndarray, "S"]:
    """Deal the users of samples to folds; every sample of a user has the same one.

    Args:
        samples: whose users are dealt.
        count: of folds, at least 2.
        seed: of the order in which users are dealt.

    Raises:
        ThinkrankError: if there are fewer users than folds.
    """
    users_U, which_S, sizes_U = np.unique(samples.users, return_inverse=True, return_counts=True)
    if not 2 <= count <= len(users_U):
        raise ThinkrankError(f"{len(users_U)} validation users cannot be dealt to {count} folds of at least one each")
    shuffled_U = np.random.default_rng(seed).permutation(len(users_U))
    order_U = shuffled_U[
        np.argsort(-sizes_U[shuffled_U], kind="stable")
    ]  # the largest first, each to the smallest fold
    fold_U, taken = np.zeros(len(users_U), np.int64), np.zeros(count, np.int64)
    for user in order_U.tolist():
        fold_U[user] = taken.argmin()
        taken[fold_U[user]] += sizes_U[user]
    return fold_U[which_S]


@dataclass(frozen=True, eq=False)
class Offered:
    """Hold what a stage is given for each sample, and which of it was chosen.

    Attributes:
        samples: whose lists they are.
        candidates: what there is to choose from.
        scores_SN: with which the items come, falling; -inf for padding.
        taken_S: the column of what was chosen; -1 where the stages before lost it.
        folds_S: of the samples' users.
    """

    samples: Samples
    candidates: Candidates
    scores_SN: Float64[np.ndarray, "S N"]
    taken_S: Int64[np.ndarray, "S"]
    folds_S: Int64[np.ndarray, "S"]

    @property
    def found_S(self) -> Bool[np.ndarray, "S"]:
        """Return which lists hold what was chosen."""
        return self.taken_S >= 0

    def folds(self) -> Iterator[tuple[int, Bool[np.ndarray, "S"], Bool[np.ndarray, "S"]]]:
        """Yield each fold, which lists may be learnt from for it, and which are its own."""
        for fold in np.unique(self.folds_S).tolist():
            own_S = self.folds_S == fold
            yield fold, self.found_S & ~own_S, own_S

    def part(self, chosen_S: Bool[np.ndarray, "S"]) -> tuple[Requests, Candidates]:
        """Return who asks, and what there is to choose from, of some samples."""
        rows = np.flatnonzero(chosen_S)
        return self.samples.take(rows).requests(), self.candidates.take(rows)

    def lists(self, chosen_S: Bool[np.ndarray, "S"]) -> ImpressionDataset:
        """Return the lists of some samples for a network that learns to order them."""
        rows = np.flatnonzero(chosen_S)
        candidates = self.candidates.take(rows)
        return lists_of(self.samples, rows, candidates.items_BN, candidates.numeric_BNF, candidates.numeric_names)


def offered_out_of_fold(
    samples: Samples,
    folds_S: Int64[np.ndarray, "S"],
    cascade_without: Callable[[int, Samples], Cascade],
    verb: Literal["rank", "rerank"],
) -> Offered:
    """Make the list of every sample by stages that were fitted without its user.

    Args:
        samples: that no stage's own training has seen.
        folds_S: of their users; see `folds_of`.
        cascade_without: makes the stages before for a fold, from samples that may be fitted on: those of the others.
        verb: of the stage that the lists are for.
    """
    parts: list[Candidates] = []
    scores, rows = [], []
    for fold in np.unique(folds_S).tolist():
        rows_F = np.flatnonzero(folds_S == fold)
        cascade = cascade_without(fold, samples.take(np.flatnonzero(folds_S != fold)))
        candidates, scores_FN = cascade.offered(
            samples.take(rows_F).requests(), verb, filter_seen=not samples.dataset.repeats
        )
        parts.append(candidates)
        scores.append(scores_FN)
        rows.append(rows_F)
    back_S = np.argsort(np.concatenate(rows))
    candidates = Candidates.joined(parts).take(back_S)
    is_taken_SN = candidates.items_BN == samples.targets[:, None]
    taken_S = np.where(is_taken_SN.any(axis=1), is_taken_SN.argmax(axis=1), -1).astype(np.int64)
    return Offered(samples, candidates, np.concatenate(scores)[back_S], taken_S, folds_S)


def gain_of(offered: Offered, own_SN: Float64[np.ndarray, "S N"]) -> tuple[Blend, StageGain]:
    """Find how a stage's scores are best joined with those before, and whether they are worth it.

    Both are added with the weights under which the choices are likeliest. The stage is kept if that raises the
    likelihood of a choice by more than its standard error, which tells small gains that NDCG@10 cannot, and if NDCG@10
    does not fall by more than its own, which would be chance; else it has weight 0.

    Args:
        offered: what the stage was given.
        own_SN: its scores of the candidates, each from a stage that has not learnt from that sample.
    """
    before_SN = np.where(offered.candidates.mask_BN, offered.scores_SN, 0.0)
    _, alone_S = _likeliest(offered, before_SN)
    (before, own), both_S = _likeliest(offered, before_SN, own_SN)
    users_S, found_S = offered.samples.users, offered.found_S
    before_S, after_S = (_ndcg(offered, scores_SN) for scores_SN in (before_SN, before * before_SN + own * own_SN))
    likelihood = float((both_S - alone_S).mean()) if len(both_S) else 0.0
    gain = StageGain(
        before=float(before_S.mean()),
        after=float(after_S.mean()),
        error=_error(after_S - before_S, users_S),
        likelihood=likelihood,
        likelihood_error=_error(both_S - alone_S, users_S[found_S]),
        ceiling=float(found_S.mean()),
        samples=len(offered.samples),
    )
    is_kept = own > 0 and likelihood > gain.likelihood_error and gain.after >= gain.before - gain.error
    return (Blend(before=before, own=own) if is_kept else Blend(before=1.0, own=0.0)), gain


def _likeliest(offered: Offered, *scores: Float64[np.ndarray, "S N"]) -> tuple[list[float], Float64[np.ndarray, "F"]]:
    """Find the weights of scores under which what was found is likeliest, and its log-likelihood for each."""
    found_S, mask_SN = offered.found_S, offered.candidates.mask_BN
    if not found_S.any():
        return [1.0] * len(scores), np.zeros(0)
    scales = [float(scores_SN[mask_SN].std()) or 1.0 for scores_SN in scores]
    columns_FKN = np.stack([one[found_S] / scale for one, scale in zip(scores, scales, strict=True)], axis=1)
    mask_FN, taken_F = mask_SN[found_S], offered.taken_S[found_S]
    weights_2K, _ = conditional_logit(
        columns_FKN.astype(np.float32),
        mask_FN,
        taken_F,
        np.zeros(len(taken_F), dtype=bool),
        ridge=_RIDGE,
        newcomer_ridge=0.0,
    )
    logits_FN = np.where(mask_FN, np.einsum("fkn,k->fn", columns_FKN, weights_2K[0].astype(np.float64)), -np.inf)
    highest_F1 = logits_FN.max(axis=1, keepdims=True)
    total_F = np.log(np.exp(logits_FN - highest_F1).sum(axis=1)) + highest_F1[:, 0]
    likelihood_F = logits_FN[np.arange(len(taken_F)), taken_F] - total_F
    return [float(one) / scale for one, scale in zip(weights_2K[0], scales, strict=True)], likelihood_F


def _ndcg(offered: Offered, scores_SN: Float64[np.ndarray, "S N"]) -> Float64[np.ndarray, "S"]:
    """Compute NDCG@10 of every sample; equal scores keep the order given, what was lost counts 0."""
    scores_SN = np.where(offered.candidates.mask_BN, scores_SN, -np.inf)
    columns_SN = np.argsort(-scores_SN, axis=1, kind="stable")
    places_S = (columns_SN == offered.taken_S[:, None]).argmax(axis=1) + 1
    places_S = np.where(offered.found_S, places_S, scores_SN.shape[1] + 1)
    return ndcg(relevance_from_ranks(places_S, min(_CUTOFF, scores_SN.shape[1])), _CUTOFF)


def _error(values_S: Float64[np.ndarray, "S"], users_S: Any) -> float:
    """Estimate the standard error of a mean over samples; 0 of none."""
    return float(mean_errors(values_S[:, None], users_S)[0][0]) if len(values_S) else 0.0
