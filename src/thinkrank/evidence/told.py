"""What a tool tells of a history instead of a thought: what other people chose with its items, in true counts."""

from dataclasses import dataclass

import numpy as np

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.history import History
from thinkrank.data.interactions import newest_distinct
from thinkrank.evidence.crowd import Crowd
from thinkrank.evidence.features import EvidenceFeatures, FeatureOptions

NAMED, COUNTED = 10, 2
"""Items that are told at most, and those of them that are told with a count."""

NOTHING = "Nobody chose anything with these."


@dataclass(frozen=True)
class Chosen:
    """Hold an item that people chose with one of a history.

    Attributes:
        item: catalogue row.
        both: people who chose it and the item of the history.
        of: people who chose the item of the history.
        beside: catalogue row of that item, the one that most of those people chose it with; of equals the newest.
    """

    item: int
    both: int
    of: int
    beside: int


class CrowdTeller:
    """Tell which items the neighbours of a history's items vote for, the votes being those of item-kNN.

    Args:
        crowd: what was counted.
        catalogue: the items.
        options: how votes are counted.
    """

    def __init__(self, crowd: Crowd, catalogue: Catalogue, options: FeatureOptions | None = None) -> None:
        self.crowd = crowd
        self._features = EvidenceFeatures(crowd, catalogue, options)

    def chosen(self, history: History, without: int | None = None) -> list[Chosen]:
        """List the items with most votes, the most first, those of the history left out; of equals the lowest row.

        Args:
            history: oldest first.
            without: number of the user who is left out of all counts, as if he had not been in the data.
        """
        known = history.items[history.items < self.crowd.num_items]  # of items added since nothing was counted
        rows = newest_distinct(History(known), self._features.options.window)
        votes_I = self._features.knn_scores(rows, without)
        votes_I[known] = 0
        best = np.argsort(-votes_I, kind="stable")[:NAMED]
        people_I = self.crowd.people(without)
        together_HI = [self.crowd.together(row, without) for row in rows.tolist()]
        found = []
        for item in best[votes_I[best] > 0].tolist():
            both = [int(row_I[item]) for row_I in together_HI]
            at = int(np.argmax(both))
            found.append(Chosen(item, both[at], int(people_I[rows[at]]), int(rows[at])))
        return found

    def told(self, history: History, without: int | None = None) -> list[str | int]:
        """Tell it in one line, as words and catalogue rows in turn, which a prompt names; arguments as for `chosen`."""
        parts: list[str | int] = []
        for place, one in enumerate(self.chosen(history, without)):
            if place < COUNTED:
                parts += ["Others chose" if not place else ";", one.item, f" {one.both} of {one.of} with", one.beside]
            else:
                parts += ["; then", one.item] if place == COUNTED else [one.item]
        return [*parts, "."] if parts else [NOTHING]
