"""Does the order in which candidates are shown change the order in which they are ranked?

The same sets are ranked K times, shown in another order each time. A ranker that looks at one candidate at a time gives
the same scores each time; one that reads a list may not.

Shape legend: K orders shown, B sets, N candidates, P pairs of candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from thinkrank import metrics
from thinkrank.data import CandidateSets
from thinkrank.evaluate.ranking import candidate_ranks, candidate_ties
from thinkrank.evaluate.results import ResultRow
from thinkrank.evaluate.significance import bootstrap_intervals


@dataclass(frozen=True, eq=False)
class PositionBias:
    """Hold what became of K shown orders.

    Attributes:
        tau_B: per set, mean of Kendall's tau over all pairs of orders; 1 if what is shown first makes no difference.
        ndcg_KB: NDCG@k of each set in each order, the expected one where scores tie.
        places_KB: 0-based place at which the true item was shown.
        k: cut-off of the NDCG; None for the whole list.
    """

    tau_B: Float64[np.ndarray, "B"]
    ndcg_KB: Float64[np.ndarray, "K B"]
    places_KB: Int64[np.ndarray, "K B"]
    k: int | None

    @property
    def spread(self) -> float:
        """Return the standard deviation of the mean NDCG over the K orders: how far other orders would move a table."""
        return float(self.ndcg_KB.mean(axis=1).std(ddof=1))

    def by_place(self, num_places: int) -> tuple[Float64[np.ndarray, "N"], Int64[np.ndarray, "N"]]:
        """Return the mean NDCG of sets whose true item was shown at each place, NaN without any, and their number."""
        counts_N = np.bincount(self.places_KB.ravel(), minlength=num_places)
        sums_N = np.bincount(self.places_KB.ravel(), self.ndcg_KB.ravel(), minlength=num_places)
        return np.divide(sums_N, counts_N, out=np.full(len(counts_N), np.nan), where=counts_N > 0), counts_N

    def rows(self, users_B: np.ndarray, *, dataset: str, split: str, system: str) -> list[ResultRow]:
        """Return rows: tau with an interval that resamples users, the spread, and NDCG by the place shown, from 1."""
        (tau,) = bootstrap_intervals(self.tau_B[:, None], users_B)
        metric = "ndcg" if self.k is None else f"ndcg@{self.k}"
        row = partial(ResultRow, dataset=dataset, split=split, system=system, low=None, high=None, seeds=())
        means_N, counts_N = self.by_place(int(self.places_KB.max()) + 1)
        return [
            row(metric="kendall tau over orders", n=len(self.tau_B), **vars(tau)),
            row(metric=f"{metric} deviation over orders", value=self.spread, n=len(self.tau_B)),
            *(
                row(metric=f"{metric}, true item shown at {place}", value=float(mean), n=int(count))
                for place, (mean, count) in enumerate(zip(means_N, counts_N, strict=True), start=1)
                if count
            ),
        ]


def position_bias(
    scores: Sequence[Float[np.ndarray, "B N"]], shown: Sequence[CandidateSets], *, k: int | None = 10
) -> PositionBias:
    """Compare what a ranker said of the same sets in several orders.

    Args:
        scores: per order, in the columns of that order; higher is better.
        shown: per order the sets as they were shown, from `CandidateSets.shuffled` with different seeds.
        k: cut-off of the NDCG; None for the whole list.

    Raises:
        ValueError: with fewer than two orders, if they are not orders of the same sets, or if scores do not fit.

    Source: ours, for R2Rank's claim that judging one candidate at a time removes position bias.
    """
    if len(shown) < 2 or len(scores) != len(shown):
        raise ValueError(f"needs the scores of at least 2 orders, got {len(scores)} of {len(shown)}")
    width = shown[0].items_BN.shape[1]
    ndcg = []
    for scores_BN, sets in zip(scores, shown, strict=True):
        ranks_B, ties_B = candidate_ranks(scores_BN, sets), candidate_ties(scores_BN, sets)
        tied_BN = metrics.ties_from_ranks(ranks_B, ties_B, width)
        ndcg.append(metrics.ndcg(metrics.relevance_from_ranks(ranks_B, width), k, tied_BN=tied_BN))
    # Sorted by catalogue row, the columns of all orders mean the same.
    columns = [np.argsort(sets.items_BN, axis=1) for sets in shown]
    items = [np.take_along_axis(sets.items_BN, at_BN, axis=1) for sets, at_BN in zip(shown, columns, strict=True)]
    if any((items_BN != items[0]).any() for items_BN in items):
        raise ValueError("these are not orders of the same candidate sets")
    given = zip(scores, columns, strict=True)
    aligned_KBN = np.stack([np.take_along_axis(np.asarray(scores_BN), at_BN, axis=1) for scores_BN, at_BN in given])
    return PositionBias(
        tau_B=kendall_tau(aligned_KBN, items[0] >= 0),
        ndcg_KB=np.stack(ndcg),
        places_KB=np.stack([sets.positive_B for sets in shown]),
        k=k,
    )


def kendall_tau(
    scores_KBN: Float[np.ndarray, "K B N"], mask_BN: Bool[np.ndarray, "B N"] | None = None
) -> Float64[np.ndarray, "B"]:
    """Compute Kendall's tau-b between the orders that K runs put the same candidates into, mean over all pairs of runs.

    Over pairs of candidates, τ = Σ sign_k sign_l / sqrt(pairs run k does not tie · pairs run l does not tie). Two runs
    that tie everything agree (1); one that does and one that does not have nothing in common (0).

    Args:
        scores_KBN: higher stands earlier; the same candidate in the same column of every run.
        mask_BN: False at padding.

    Raises:
        ValueError: with fewer than two runs.

    Source: Kendall 1945.
    """
    num_runs, num_sets, num_candidates = scores_KBN.shape
    if num_runs < 2:
        raise ValueError("an order is compared with another one: needs at least 2 runs")
    left_P, right_P = np.triu_indices(num_candidates, k=1)
    real_BN = np.ones((num_sets, num_candidates), dtype=bool) if mask_BN is None else mask_BN
    filled_KBN = np.where(real_BN, scores_KBN, 0.0)
    signs_KBP = np.sign(filled_KBN[..., left_P] - filled_KBN[..., right_P])
    signs_KBP *= real_BN[:, left_P] & real_BN[:, right_P]
    agreement_BKK = np.einsum("kbp,lbp->bkl", signs_KBP, signs_KBP)
    untied_BK = np.diagonal(agreement_BKK, axis1=1, axis2=2)
    scale_BKK = np.sqrt(untied_BK[:, :, None] * untied_BK[:, None, :])
    both_tie_BKK = (untied_BK[:, :, None] == 0) & (untied_BK[:, None, :] == 0)
    tau_BKK = np.divide(agreement_BKK, scale_BKK, out=both_tie_BKK.astype(np.float64), where=scale_BKK > 0)
    first, second = np.triu_indices(num_runs, k=1)
    return np.asarray(tau_BKK[:, first, second].mean(axis=1))
