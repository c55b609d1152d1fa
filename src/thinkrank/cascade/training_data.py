"""Candidate lists from interactions and a first stage: what there is to re-order where nobody logged lists.

Shape legend: B histories, I items, N candidates, S samples.
"""

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64

from thinkrank.data.histories import Histories
from thinkrank.data.history import History
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.splits import Samples
from thinkrank.errors import ThinkrankError

Targets = Literal["found", "all"]
"""Which samples become lists: those whose target the retriever found, or all of them."""


@runtime_checkable
class Scores(Protocol):
    """What is asked of a first stage; every `thinkrank.stages.Retriever` has it."""

    def scores(self, histories: Sequence[History]) -> Float32[np.ndarray, "B I"]:
        """Score every catalogue item for every history; higher is better."""
        ...


def lists_from_retriever(
    samples: Samples,
    retriever: Scores,
    n: int,
    *,
    targets: Targets = "found",
    filter_seen: bool = True,
    batch_size: int = 256,
    seed: int = 0,
) -> ImpressionDataset:
    """One list per sample: the n items that a retriever scores best, among them the one the user took.

    - ``found`` keeps the samples whose target is among the n best, in the order of the scores, which are a numeric
      feature. It is what a cascade would re-rank; how many samples were lost is in the notices.
    - ``all`` puts the target in the place of the n-th where it was not found. Place and score would then give it away,
      so the order is random and the scores are left out. What gives it away still is that the others were found.

    The samples should not be those the retriever learnt from: it finds their targets too easily.

    Args:
        samples: what users took, and after which history.
        retriever: the first stage.
        n: candidates of a list, at least 2.
        targets: which samples become lists.
        filter_seen: leave out items of the history; a target among them is never found, and so never in a list.
        batch_size: histories scored at once.
        seed: of the random order.

    Raises:
        ThinkrankError: if n is below 2 or above the catalogue, or no list is left.
    """
    num_items = len(samples.dataset.catalogue)
    if not 2 <= n <= num_items:
        raise ThinkrankError(f"lists of {n} cannot be made from {num_items} items; n must be 2 to {num_items}")
    histories, targets_S = samples.histories(), samples.targets.astype(np.int64)
    items, scores, kept = [], [], []
    for start in range(0, len(histories), batch_size):
        part = slice(start, start + batch_size)
        scores_BI = retriever.scores(histories[part]).astype(np.float32)
        if filter_seen:
            for row, history in zip(scores_BI, histories[part], strict=True):
                row[history.items] = -np.inf
        best_BN = np.argsort(-scores_BI, axis=1, kind="stable")[:, :n]
        found_B = (best_BN == targets_S[part, None]).any(axis=1)
        reachable_B = ~np.isneginf(scores_BI[np.arange(len(scores_BI)), targets_S[part]])
        if targets == "all":
            best_BN[~found_B, -1] = targets_S[part][~found_B]
        # A user who saw nearly everything leaves fewer than n items to recommend.
        best_scores_BN = np.take_along_axis(scores_BI, best_BN, axis=1)
        wanted_B = reachable_B & (found_B | (targets == "all")) & ~np.isneginf(best_scores_BN).any(axis=1)
        kept.append(start + np.flatnonzero(wanted_B))
        items.append(best_BN[wanted_B])
        scores.append(best_scores_BN[wanted_B])
    kept_S = np.concatenate([np.zeros(0, np.int64), *kept])
    if not len(kept_S):
        raise ThinkrankError(f"{samples.dataset.name}: the retriever finds no target among its {n} best; raise n")
    items_SN, scores_SN = np.concatenate(items), np.concatenate(scores)
    if targets == "all":
        lots_SN = np.random.default_rng(seed).random(items_SN.shape)
        items_SN = np.take_along_axis(items_SN, np.argsort(lots_SN, axis=1), axis=1)
    return _lists(samples, kept_S, items_SN, scores_SN[:, :, None] if targets == "found" else None)


def _lists(
    samples: Samples,
    kept_S: Int64[np.ndarray, "S"],
    items_SN: Int64[np.ndarray, "S N"],
    scores_SN1: Float32[np.ndarray, "S N 1"] | None,
) -> ImpressionDataset:
    dataset = samples.dataset
    lists, width = items_SN.shape
    starts_S, ends_S = dataset.offsets[samples.users[kept_S]], samples.positions[kept_S]
    lost = len(samples) - lists
    notice = f"left out {lost:,} of {len(samples):,} samples whose target the retriever did not find"
    return ImpressionDataset(
        name=dataset.name,
        catalogue=dataset.catalogue,
        items_LN=items_SN.astype(np.int32),
        feedback_LNS=(items_SN == samples.targets[kept_S, None])[:, :, None].astype(np.float32),
        signals=("click",),
        times_L=samples.times[kept_S],
        users=tuple(dataset.users),
        users_L=samples.users[kept_S],
        histories=Histories(dataset.items_E, dataset.times_E, starts_S, ends_S),
        numeric_LNF=np.zeros((lists, width, 0), np.float32) if scores_SN1 is None else scores_SN1,
        numeric_names=() if scores_SN1 is None else ("score",),
        categorical_LNC=np.zeros((lists, width, 0), np.int32),
        categorical_names=(),
        categorical_values=(),
        context_LF=np.zeros((lists, 0), np.float32),
        context_names=(),
        notices=(*dataset.notices, notice) if lost else dataset.notices,
        source=dataset.source,
    )
