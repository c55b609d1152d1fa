"""What only counts, beside a probe: what can be seen, from the spread of two of them, and the mark that they set."""

import time
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from thinkrank import metrics
from thinkrank.data import Samples, Split
from thinkrank.evaluate.power import LEVEL, effect_words, foreseen_effect, spread
from thinkrank.evaluate.verdict import begun
from thinkrank.recipes.baselines import MOST_PAIRED_ITEMS
from thinkrank.recipes.probe_arms import COUNTING, Arm
from thinkrank.retrieve import EASE, ItemKNN, Popularity

_SAMPLES = 1000


def pilot_words(split: Split, samples: Samples, *, ways: int) -> str:
    """Say which effects the samples of a probe cannot show, by how EASE differs from item-kNN on validation samples.

    That counts the chance of users alone. Another training of the same model comes out differently, too, and two
    trained models can differ more from sample to sample than these two: what the verdict tells in the end is larger.

    Args:
        split: whose validation part is the pilot's.
        samples: that the probe will be judged on.
        ways: how many are tried, which share the level.

    Returns:
        a sentence; empty with too few validation samples, or too many items for a pilot.
    """
    valid = split.valid.subset(_SAMPLES, seed=0)
    if len(valid) < 2 or len(split.dataset.catalogue) > MOST_PAIRED_ITEMS:
        return ""
    first_S, second_S = (_ndcg(kind().fit(split), valid) for kind in (ItemKNN, EASE))
    effect = foreseen_effect(spread(second_S - first_S, valid.users), samples.users, level=LEVEL / ways)
    told = effect_words(effect, float(first_S.mean()), len(samples), len(np.unique(samples.users)))
    return f"{begun(told)}, as far as two counting models tell beforehand; the chance of training comes on top."


def counting_arms(split: Split) -> tuple[Arm, ...]:
    """Return what counts on such data, popularity first; nothing that compares the items of a large catalogue."""
    return COUNTING if len(split.dataset.catalogue) <= MOST_PAIRED_ITEMS else COUNTING[:1]


def counted(arm: Arm, split: Split, samples: Samples) -> dict[str, Any]:
    """Answer samples by counting, untuned.

    Returns:
        as `probe_judging.judged`, and that no seed has a part in it.
    """
    retriever = {"popularity": Popularity, "item-knn": ItemKNN}[arm.name]().fit(split)
    began = time.perf_counter()
    ranks_S = _ranks(retriever, samples)
    (how,) = arm.asked
    seconds = (time.perf_counter() - began) / len(samples)
    return {
        "ranks": {how: ranks_S.tolist()},
        "tokens": {how: 0},
        "answer_seconds": {how: seconds},
        "seedless": [how],
        "shown": [],
    }


def _ranks(retriever: Popularity | ItemKNN | EASE, samples: Samples) -> Int64[np.ndarray, "S"]:
    return retriever.target_ranks(samples.requests(), samples.targets, filter_seen=not samples.dataset.repeats)


def _ndcg(retriever: ItemKNN | EASE, samples: Samples) -> Float64[np.ndarray, "S"]:
    ranks_S = _ranks(retriever, samples)
    return np.asarray(metrics.ndcg(metrics.relevance_from_ranks(ranks_S, 10), 10), dtype=np.float64)
