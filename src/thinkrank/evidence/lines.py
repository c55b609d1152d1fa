"""Evidence about a candidate in a few short lines of a prompt: what the crowd did, and what the texts share.

    chosen by 65 people, more than 98 of 100 items
    chosen with these: very often; with Heat 41 of 120, with Casino 30 of 98
    shared with these: crime 9, drama 4

The words rank all neighbours' votes among those for the whole catalogue, so they mean the same for every history; never
is said where nobody chose both. Counts are of people, and of items shown; pairs of which too few people tell, and
attributes that nothing shares, are left out.

Shape legend: I items.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.history import History
from thinkrank.data.interactions import newest_distinct
from thinkrank.evidence.crowd import Crowd
from thinkrank.evidence.features import EvidenceFeatures, FeatureOptions
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
        self._reasons = Reasons(crowd, catalogue)
        self._features = EvidenceFeatures(crowd, catalogue, FeatureOptions(neighbours=max(1, len(catalogue))))

    def lines(self, history: History, items: Sequence[int], without: int | None = None) -> list[str]:
        """Write the lines of each item; after an empty history it was never chosen with anything.

        Args:
            history: as it is shown, oldest first.
            items: catalogue rows.
            without: number of the user who is left out of all counts.
        """
        rows = newest_distinct(history, None)
        votes_I, people_I = self._features.knn_scores(rows, without), self.crowd.people(without)
        texts = []
        for item in items:
            fewer = 100 * np.count_nonzero(people_I < people_I[item]) // len(people_I)
            by = f"{people_I[item]:,} {'person' if people_I[item] == 1 else 'people'}"
            chosen = f"chosen by {by}, more than {fewer} of 100 items"
            texts.append("\n".join(filter(None, (chosen, *self._lines(rows.tolist(), item, votes_I, without)))))
        return texts

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
