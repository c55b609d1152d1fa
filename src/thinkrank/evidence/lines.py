"""Evidence about a candidate in a few short lines of a prompt: what the crowd did, and what the texts share.

    chosen with these: very often; with Heat 41 of 120, with Casino 30 of 98
    shared with these: crime 9, drama 4

The words rank the nearest neighbours' votes among those for the whole catalogue, so they mean the same for every
history. Counts are of people, and of items shown; what too few people did, or what says nothing, is not told.

Shape legend: I items.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.history import History
from thinkrank.data.interactions import newest_distinct
from thinkrank.evidence.crowd import Crowd
from thinkrank.evidence.features import EvidenceFeatures
from thinkrank.evidence.reasons import Reasons

LEVELS = ((0.99, "very often"), (0.95, "often"), (0.8, "now and then"), (0.5, "seldom"), (0.0, "hardly ever"))
"""Share of the catalogue with fewer votes from which on a word is right."""

NEVER = "never"
_NAMED, _SHARED = 2, 3


class PairLines:
    """Write lines about candidates.

    Args:
        crowd: what was counted.
        catalogue: the items.
    """

    def __init__(self, crowd: Crowd, catalogue: Catalogue) -> None:
        self.crowd = crowd
        self._reasons, self._features = Reasons(crowd, catalogue), EvidenceFeatures(crowd, catalogue)

    def lines(self, history: History, items: Sequence[int], without: int | None = None) -> list[str]:
        """Write the lines of each item; of an empty history only that it was never chosen with anything.

        Args:
            history: as it is shown, oldest first.
            items: catalogue rows.
            without: number of the user who is left out of all counts.
        """
        rows = newest_distinct(history, None)
        votes_I = self._features.knn_scores(rows, without)
        return ["\n".join(filter(None, self._lines(rows.tolist(), item, votes_I, without))) for item in items]

    def _lines(
        self, rows: Sequence[int], item: int, votes_I: Float64[np.ndarray, "I"], without: int | None
    ) -> tuple[str, str]:
        named = self._reasons.together(rows, item, without)[:_NAMED]
        counts = "".join(
            f"{', ' if place else '; '}with {self._reasons.title(row)} {both:,} of {of:,}"
            for place, (_, row, both, of) in enumerate(named)
        )
        facts = self._reasons.facts
        held = {value: sum(value in facts.values[row] for row in rows) for value in facts.values[item]}
        most = sorted((value for value in held if held[value]), key=lambda value: -held[value])[:_SHARED]
        shared = ", ".join(f"{value} {held[value]}" for value in most)
        return f"chosen with these: {_level(votes_I, item)}{counts}", f"shared with these: {shared}" if shared else ""


def _level(votes_I: Float64[np.ndarray, "I"], item: int) -> str:
    if votes_I[item] <= 0:
        return NEVER
    fewer = np.count_nonzero(votes_I < votes_I[item]) / len(votes_I)
    return next(word for least, word in LEVELS if fewer >= least)
