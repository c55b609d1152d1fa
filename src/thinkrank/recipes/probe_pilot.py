"""What a probe can see, told before anything is trained: from the spread between two retrievers that only count."""

import numpy as np
from jaxtyping import Float64

from thinkrank import metrics
from thinkrank.data import Samples, Split
from thinkrank.evaluate.power import effect_words, foreseen_effect, spread
from thinkrank.retrieve import EASE, ItemKNN

_SAMPLES = 1000
_MOST_ITEMS = 15_000
"""Of a catalogue whose items are compared pair by pair."""


def pilot_words(split: Split, samples: Samples) -> str:
    """Say which effects the samples of a probe cannot show, by how EASE differs from item-kNN on validation samples.

    Two arms of one model differ less from sample to sample than these two do, so the effect is rather an upper bound.

    Args:
        split: whose validation part is the pilot's.
        samples: that the probe will be judged on.

    Returns:
        a sentence; empty with too few validation samples, or too many items for a pilot.
    """
    valid = split.valid.subset(_SAMPLES, seed=0)
    if len(valid) < 2 or len(split.dataset.catalogue) > _MOST_ITEMS:
        return ""
    first_S, second_S = (_ndcg(kind().fit(split), valid) for kind in (ItemKNN, EASE))
    effect = foreseen_effect(spread(second_S - first_S, valid.users), samples.users)
    told = effect_words(effect, float(first_S.mean()), len(samples), len(np.unique(samples.users)))
    return f"{told[:1].upper()}{told[1:]}, as far as two counting models tell beforehand."


def _ndcg(retriever: ItemKNN | EASE, samples: Samples) -> Float64[np.ndarray, "S"]:
    ranks_S = retriever.target_ranks(samples.requests(), samples.targets, filter_seen=not samples.dataset.repeats)
    return np.asarray(metrics.ndcg(metrics.relevance_from_ranks(ranks_S, 10), 10), dtype=np.float64)
