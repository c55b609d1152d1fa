"""Requests that R²ec has read, and what is answered from them.

Shape legend: B requests, X width times thoughts.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from thinkrank.data.requests import Requests
from thinkrank.language import Completion
from thinkrank.stages.answers import Cost, Ranking
from thinkrank.stages.thoughts import thought_of


@dataclass(frozen=True)
class Reading:
    """Requests that were read, after a thought or without one.

    Attributes:
        requests: what was asked.
        users_BX: unit vectors of the users, those after several thoughts behind one another.
        thoughts: one per request; None if none was written.
        began: when the work on them did, by `time.perf_counter`.
        count: thoughts about each request.
        further: those of them that are not in the answer.
    """

    requests: Requests
    users_BX: Float[Tensor, "B X"]
    thoughts: Sequence[Completion] | None
    began: float
    count: int = 1
    further: Sequence[Completion] = ()

    def seen(self, filter_seen: bool) -> list[np.ndarray] | None:
        """Return what must not be answered."""
        return [history.items for history in self.requests.histories] if filter_seen else None

    def completed(self, ranking: Ranking) -> Ranking:
        """Return the answer with its thoughts and its cost."""
        tokens = sum(len(thought.ids) for thought in (*(self.thoughts or ()), *self.further))
        return replace(
            ranking,
            thoughts=None if self.thoughts is None else tuple(map(thought_of, self.thoughts)),
            cost=Cost(time.perf_counter() - self.began, tokens),
        )
