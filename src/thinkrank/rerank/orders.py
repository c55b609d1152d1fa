"""Orders that learn nothing: as displayed, and by one feature that is known of each candidate."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from thinkrank.errors import ThinkrankError
from thinkrank.rerank.lists.checks import checked_lists
from thinkrank.stages.answers import Ranking
from thinkrank.stages.order import order_candidates


@dataclass(frozen=True)
class InitialOrder:
    """Leave every list as it was displayed: the floor that a re-ranker must clear."""

    def rerank(self, requests: Any, candidates: Any, k: int) -> Ranking:
        """Answer with the first k candidates."""
        _, candidates = checked_lists(requests, candidates)
        places_N = np.arange(candidates.items_BN.shape[1], dtype=np.float32)
        return order_candidates(candidates, np.broadcast_to(-places_N, candidates.items_BN.shape), k)


@dataclass(frozen=True)
class FeatureOrder:
    """Sort by a numeric feature, the largest first; candidates alike keep the displayed order, and the answer says so.

    By ``rate_before`` it is the order of the streaming click-through rate, by ``taken_before`` of popularity, by
    ``seen_lately`` of what the user met last.

    Attributes:
        feature: one of the candidates' `numeric_names`.
        descending: False to sort the smallest first, as by price.
    """

    feature: str = "rate_before"
    descending: bool = True

    def rerank(self, requests: Any, candidates: Any, k: int) -> Ranking:
        """Answer with the k best candidates.

        Raises:
            ThinkrankError: if the candidates do not have the feature.
        """
        _, candidates = checked_lists(requests, candidates)
        if candidates.numeric_BNF is None or self.feature not in candidates.numeric_names:
            there = ", ".join(candidates.numeric_names) or "none"
            raise ThinkrankError(f"{candidates.name}: no numeric feature {self.feature!r}; there are {there}")
        values_BN = candidates.numeric_BNF[:, :, candidates.numeric_names.index(self.feature)]
        return order_candidates(candidates, values_BN if self.descending else -values_BN, k)
