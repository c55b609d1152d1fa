"""From one stage to the next: what a retriever finds becomes what rankers and re-rankers learn from.

Shape legend: B requests, I items, N candidates, S samples.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float32, Int32, Int64

from thinkrank.cascade.answers import joined
from thinkrank.data.candidates import CandidateSets, sets_of
from thinkrank.data.histories import Histories
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.splits import Samples
from thinkrank.errors import ThinkrankError
from thinkrank.stages.answers import Ranking
from thinkrank.stages.checks import check_items
from thinkrank.stages.protocols import Retriever

Targets = Literal["found", "all"]
"""Which samples become lists: those whose target the retriever found, or all of them."""

_ASKED_AT_ONCE = 256


def candidates_from_retriever(
    samples: Samples, retriever: Retriever, size: int = 20, *, seed: int = 0
) -> CandidateSets:
    """Make a set for every sample of its target and the `size - 1` best other items that a retriever finds.

    The history is left out. If the target is not among the `size` best it takes the place of the last: the task is then
    to rank, given that retrieval succeeded. Items that the user comes to later may be among them; to leave them out
    would tell the future.

    Args:
        samples: what is to be predicted.
        retriever: the first stage, trained on this data set.
        size: N, at least 2.
        seed: of the order.

    Raises:
        ThinkrankError: if the size is below 2, or the retriever answers with items that are not in the catalogue.
    """
    if size < 2:
        raise ThinkrankError(f"a set holds the positive and at least one negative, so its size is not {size}")
    found = _retrieved(samples, retriever, size, filter_seen=not samples.dataset.repeats)
    others = [
        items[(items >= 0) & (items != target)][: size - 1]
        for items, target in zip(found.items_BK, samples.targets, strict=True)
    ]
    return sets_of(samples, others, size, negatives="list", seed=seed)


def lists_from_retriever(
    samples: Samples,
    retriever: Retriever,
    n: int,
    *,
    targets: Targets = "found",
    filter_seen: bool = True,
    name: str = "retriever",
    seed: int = 0,
) -> ImpressionDataset:
    """Make one list per sample: the n items that a retriever scores best, among them the one the user took.

    - ``found`` keeps the samples whose target is among the n best, in the order of the scores, which are the numeric
      feature ``name.score`` (see `Ranking.candidates`). It is what a cascade would re-rank; how many samples were lost
      is in the notices.
    - ``all`` puts the target in the place of the n-th where it was not found. Place and score would then give it away,
      so the order is random and the scores are left out. What gives it away still is that the others were found.

    The samples should not be those the retriever learnt from: it finds their targets too easily.

    Args:
        samples: what users took, and after which history.
        retriever: the first stage.
        n: candidates of a list, at least 2.
        targets: which samples become lists.
        filter_seen: leave out items of the history; a target among them is never found, and so never in a list.
        name: of the retriever, for its feature.
        seed: of the random order.

    Raises:
        ThinkrankError: if n is below 2 or above the catalogue, or no list is left.
    """
    num_items = len(samples.dataset.catalogue)
    if not 2 <= n <= num_items:
        raise ThinkrankError(f"lists of {n} cannot be made from {num_items} items; n must be 2 to {num_items}")
    ranking = _retrieved(samples, retriever, n, filter_seen=filter_seen)
    items_SN, targets_S = ranking.items_BK.copy(), samples.targets
    found_S = (items_SN == targets_S[:, None]).any(axis=1)
    if targets == "all":
        items_SN[~found_S, -1] = targets_S[~found_S]
    # A user who saw nearly everything leaves fewer than n items to recommend.
    wanted_S = (found_S | (targets == "all")) & ~(samples.seen_S & filter_seen) & (ranking.items_BK >= 0).all(axis=1)
    kept_S = np.flatnonzero(wanted_S)
    if not len(kept_S):
        raise ThinkrankError(f"{samples.dataset.name}: the retriever finds no target among its {n} best; raise n")
    items_SN = items_SN[kept_S]
    if targets == "all":
        lots_SN = np.random.default_rng(seed).random(items_SN.shape)
        items_SN = np.take_along_axis(items_SN, np.argsort(lots_SN, axis=1), axis=1)
        return lists_of(samples, kept_S, items_SN, None, ())
    offered = ranking.candidates(name)
    assert offered.numeric_BNF is not None  # noqa: S101 - the score
    return lists_of(samples, kept_S, items_SN, offered.numeric_BNF[kept_S], offered.numeric_names)


def _retrieved(samples: Samples, retriever: Retriever, k: int, *, filter_seen: bool) -> Ranking:
    """Find the k best items of every sample, asking for some at a time."""
    check_items(retriever, samples.dataset.catalogue)
    asked = [*samples.requests().batches(_ASKED_AT_ONCE)] or [(slice(0), samples.requests())]
    found = joined([retriever.retrieve(part, k, filter_seen=filter_seen) for _, part in asked])
    if found.items_BK.max(initial=-1) >= len(samples.dataset.catalogue):
        raise ThinkrankError(
            f"the retriever answers with item {found.items_BK.max()} of {len(samples.dataset.catalogue)}: it must have "
            "been trained on this data set"
        )
    return Ranking(found.items_BK, found.scores_BK)


def lists_of(
    samples: Samples,
    kept_S: Int64[np.ndarray, "S"],
    items_SN: Int32[np.ndarray, "S N"],
    numeric_SNF: Float32[np.ndarray, "S N F"] | None,
    numeric_names: tuple[str, ...],
) -> ImpressionDataset:
    """Make lists of what some samples are offered, the item that was taken next being clicked.

    Args:
        samples: all there are.
        kept_S: which of them have a list.
        items_SN: what each list holds, in its order.
        numeric_SNF: what is known of each item; None for nothing.
        numeric_names: what these columns are.
    """
    dataset = samples.dataset
    lists, width = items_SN.shape
    starts_S, ends_S = dataset.offsets[samples.users[kept_S]], samples.history_ends[kept_S]
    lost = len(samples) - lists
    notice = f"left out {lost:,} of {len(samples):,} samples whose target the retriever did not find"
    return ImpressionDataset(
        name=dataset.name,
        catalogue=dataset.catalogue,
        items_LN=items_SN,
        feedback_LNS=(items_SN == samples.targets[kept_S, None])[:, :, None].astype(np.float32),
        signals=("click",),
        times_L=samples.times[kept_S],
        users=tuple(dataset.users),
        users_L=samples.users[kept_S],
        histories=Histories(dataset.items_E, dataset.times_E, starts_S, ends_S),
        numeric_LNF=np.zeros((lists, width, 0), np.float32) if numeric_SNF is None else numeric_SNF,
        numeric_names=numeric_names,
        categorical_LNC=np.zeros((lists, width, 0), np.int32),
        categorical_names=(),
        categorical_values=(),
        context_LF=np.zeros((lists, 0), np.float32),
        context_names=(),
        notices=(*dataset.notices, notice) if lost else dataset.notices,
        source=dataset.source,
    )
