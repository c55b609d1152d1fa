"""Orders that learn nothing: as displayed, and by one feature that is known of each candidate.

Shape legend: L lists, N candidates.
"""

from dataclasses import dataclass

import numpy as np

from thinkrank.data import ImpressionDataset
from thinkrank.errors import ThinkrankError
from thinkrank.stages.answers import Slate
from thinkrank.stages.order import slate_from_scores


@dataclass(frozen=True)
class InitialOrder:
    """Leave every list as it was displayed: the floor that a re-ranker must clear."""

    def rerank(self, lists: ImpressionDataset, k: int) -> Slate:
        """The first k candidates."""
        return slate_from_scores(lists, np.zeros(lists.items_LN.shape, dtype=np.float32), k)


@dataclass(frozen=True)
class FeatureOrder:
    """Sort by a numeric feature, the largest first; candidates alike keep the displayed order.

    By ``rate_before`` it is the order of the streaming click-through rate, by ``taken_before`` of popularity, by
    ``seen_lately`` of what the user met last.

    Attributes:
        feature: one of the data set's `numeric_names`.
        descending: False to sort the smallest first, as by price.
    """

    feature: str = "rate_before"
    descending: bool = True

    def rerank(self, lists: ImpressionDataset, k: int) -> Slate:
        """The k best candidates.

        Raises:
            ThinkrankError: if the lists do not have the feature.
        """
        if self.feature not in lists.numeric_names:
            there = ", ".join(lists.numeric_names) or "none"
            raise ThinkrankError(f"{lists.name}: no numeric feature {self.feature!r}; there are {there}")
        values_LN = lists.numeric_LNF[:, :, lists.numeric_names.index(self.feature)]
        return slate_from_scores(lists, values_LN if self.descending else -values_LN, k)
