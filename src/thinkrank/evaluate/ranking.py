"""The protocol of ranking: order the candidates of fixed sets and find where the true item stands.

Policy, the same for every system of a table:

- a system sees requests and candidates, never what came next;
- all systems rank the same sets (`thinkrank.data.CandidateSets`); what fills up a short set is never ranked;
- where the candidates are a first stage's, a true item that it missed counts as not found, for every system;
- where scores tie, figures are exact expected values over all orders of what ties: a system that counts gives many
  items of a small set the same score, and a rule that puts the true one last, or first, would decide its figure;
- figures are means over samples; intervals and tests draw whole users, as in `thinkrank.evaluate.retrieval`.

Figures say how well a system tells the true item from so many others drawn so, not how well it retrieves: with sampled
negatives systems may come out in another order than over the whole catalogue (Krichene & Rendle 2020).

Shape legend: B sets, N candidates, I items of the catalogue.
"""

import time
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, Integer

from thinkrank.data.candidates import Candidates, CandidateSets
from thinkrank.data.history import History
from thinkrank.evaluate._asking import checked_cutoffs, detached, named, ordered_columns, tokens_of
from thinkrank.evaluate.results import ResultRow
from thinkrank.evaluate.retrieval import Answers, Evaluation
from thinkrank.stages.answers import Cost, Ranking
from thinkrank.stages.checks import check_items
from thinkrank.stages.order import order_candidates, target_ranks
from thinkrank.stages.protocols import Ranker
from thinkrank.training.progress import Advance, Progress, no_progress


def random_scores(sets: CandidateSets, seed: int = 0) -> Float32[np.ndarray, "B N"]:
    """Draw scores that know nothing: the floor of every table."""
    return np.random.default_rng(seed).random(sets.items_BN.shape, dtype=np.float32)


def candidate_ranks(scores_BN: Float[np.ndarray, "B N"], sets: CandidateSets) -> Int64[np.ndarray, "B"]:
    """Return the 1-based place of each set's true item among its candidates, behind all that have its score.

    A true item that is not among them has the place behind the last.

    `candidate_ties` says how many these are. Scores have any unit, higher is better; what stands where a set is filled
    up is not looked at.

    Raises:
        ValueError: if the shapes differ, or a candidate's score is not finite.
    """
    ranks_B = target_ranks(_masked(scores_BN, sets), np.maximum(sets.positive_B, 0))
    return np.where(sets.missed_B, sets.items_BN.shape[1] + 1, ranks_B)


def candidate_ties(scores_BN: Float[np.ndarray, "B N"], sets: CandidateSets) -> Int64[np.ndarray, "B"]:
    """Count the other candidates of each set that have the true item's score.

    Raises:
        ValueError: as `candidate_ranks`.
    """
    masked_BN = _masked(scores_BN, sets)
    target_B1 = np.take_along_axis(masked_BN, np.maximum(sets.positive_B, 0)[:, None].astype(np.intp), axis=1)
    return np.where(sets.missed_B, 0, np.count_nonzero(masked_BN == target_B1, axis=1) - 1)


def evaluate_ranking(
    systems: Mapping[str, Ranker | np.ndarray],
    sets: CandidateSets,
    *,
    cutoffs: Sequence[int] = (1, 3, 5, 10),
    batch_size: int = 256,
    progress: Progress = no_progress,
) -> Evaluation:
    """Rank the candidates of every set with every system.

    Args:
        systems: by the name they get in tables: a ranker (dense retrievers are rankers too), or its scores [B, N] of
            all sets, where it was asked before.
        sets: histories, candidates and the item that came next. Systems see the first two.
        cutoffs: the k of hit@k and ndcg@k; one beyond the size of the sets is the whole list.
        batch_size: sets per question.
        progress: shows the sets of all systems.

    Returns:
        The answers; its metrics, intervals, tests and result rows are those of retrieval, but for what systems
        recommend beside the true item.

    Raises:
        ValueError: without systems, sets or cut-offs, with a cut-off below 1, or if an answer is not an order of all
            candidates by finite scores; the message names the system.
    """
    cutoffs = checked_cutoffs(systems, len(sets), "candidate set", cutoffs)
    answers = {}
    with progress("evaluating", len(sets) * len(systems)) as advance:
        for name, system in systems.items():
            with named(name):
                if isinstance(system, np.ndarray):
                    scores_BN, cost = system, Cost(0.0)
                    advance(len(sets), note=name)
                else:
                    check_items(system, sets.samples.dataset.catalogue)
                    scores_BN, cost = _scores(name, system, sets, batch_size, advance)
                masked_BN = _masked(scores_BN, sets)
                items_BK = order_candidates(sets.candidates, masked_BN, cutoffs[-1]).items_BK
                answers[name] = Answers(
                    candidate_ranks(scores_BN, sets), items_BK, cost, candidate_ties(scores_BN, sets)
                )
    return Evaluation(
        answers=answers,
        users_S=sets.samples.users,
        unreachable_S=sets.unreachable_B,
        cutoffs=cutoffs,
        num_items=len(sets.samples.dataset.catalogue),
        filter_seen=not sets.samples.dataset.repeats,
        candidates=sets.told,
    )


def history_buckets(histories: Sequence[History]) -> dict[str, Bool[np.ndarray, "S"]]:
    """Group samples by the length of their history, in full: 1 to 3, 4 to 7, 8 and more events.

    Source: ours; R2Rank is said to gain most where histories are short.
    """
    lengths_S = np.array([len(history) for history in histories], dtype=np.int64)
    return {
        "history 1-3": lengths_S <= 3,
        "history 4-7": (lengths_S > 3) & (lengths_S <= 7),
        "history 8+": lengths_S > 7,
    }


def popularity_buckets(
    targets_S: Integer[np.ndarray, "S"], counts_I: Integer[np.ndarray, "I"]
) -> dict[str, Bool[np.ndarray, "S"]]:
    """Group samples by how popular their target is in training.

    The head are the fewest items that together have a third of all training interactions, the middle those up to two
    thirds, the tail the rest that has any; cold items have none. Items with as many interactions as the last of the
    head are head too, likewise for the middle.

    Raises:
        ValueError: if there are none at all.

    Source: ours.
    """
    if not counts_I.any():
        raise ValueError("no item has training interactions, so none is popular")
    falling_I = np.sort(counts_I)[::-1]
    shares_I = np.cumsum(falling_I) / falling_I.sum()
    head, middle = (int(falling_I[np.searchsorted(shares_I, bound - 1e-9)]) for bound in (1 / 3, 2 / 3))
    taken_S = counts_I[targets_S]
    return {
        "target cold": taken_S == 0,
        "target tail": (taken_S > 0) & (taken_S < middle),
        "target middle": (taken_S >= max(1, middle)) & (taken_S < head),
        "target head": taken_S >= max(1, head),
    }


def bucket_rows(
    evaluation: Evaluation,
    buckets: Mapping[str, Bool[np.ndarray, "S"]],
    *,
    dataset: str,
    split: str,
    seeds: Mapping[str, Sequence[int]] | None = None,
) -> list[ResultRow]:
    """Return the result rows of every bucket that holds samples; the split is called "test, history 1-3".

    `seeds` are those each system was trained with.
    """
    return [
        row
        for name, chosen_S in buckets.items()
        if chosen_S.any()
        for row in evaluation.where(chosen_S).rows(dataset=dataset, split=f"{split}, {name}", seeds=seeds)
    ]


def _scores(
    name: str, ranker: Ranker, sets: CandidateSets, batch_size: int, advance: Advance
) -> tuple[Float32[np.ndarray, "B N"], Cost]:
    """Ask for scores of all sets in the order of their candidates, batch by batch, and what they cost."""
    parts, seconds, tokens = [], 0.0, 0
    for part, batch in sets.requests.batches(batch_size):
        requests, candidates = detached(batch), sets.candidates[part]
        began = time.perf_counter()
        ranking = ranker.rank(requests, candidates)
        seconds += time.perf_counter() - began
        _check_order(ranking, candidates)
        parts.append(ranking.scores_given(candidates.items_BN.shape[1]))
        tokens += tokens_of(ranking)
        advance(len(requests), note=name)
    return np.concatenate(parts), Cost(seconds, tokens)


def _check_order(ranking: Ranking, candidates: Candidates) -> None:
    """Refuse an answer that is not an order of all candidates by falling scores: figures are read off the scores."""
    ordered_columns(ranking, candidates)
    rising_B = (ranking.scores_BK[:, 1:] > ranking.scores_BK[:, :-1]).any(axis=1)
    if rising_B.any():
        raise ValueError(f"the answer to set {int(rising_B.argmax())} does not stand in the order of its scores")


def _masked(scores_BN: np.ndarray, sets: CandidateSets) -> Float32[np.ndarray, "B N"]:
    """Set scores to -inf where a set is filled up."""
    if scores_BN.shape != sets.items_BN.shape:
        raise ValueError(f"scores have shape {scores_BN.shape}, not {sets.items_BN.shape}")
    masked_BN = np.where(sets.mask_BN, scores_BN, 0.0).astype(np.float32)
    if not np.isfinite(masked_BN).all():
        raise ValueError("the scores of candidates must be finite")
    masked_BN[~sets.mask_BN] = -np.inf
    return masked_BN
