"""Requests that R²ec has read, and what is answered from them.

Shape legend: B requests, D width.
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
    """Requests that were read, after a thought or without one."""

    requests: Requests
    users_BD: Float[Tensor, "B D"]
    thoughts: Sequence[Completion] | None
    began: float

    def seen(self, filter_seen: bool) -> list[np.ndarray] | None:
        """Return what must not be answered."""
        return [history.items for history in self.requests.histories] if filter_seen else None

    def completed(self, ranking: Ranking) -> Ranking:
        """Return the answer with its thoughts and its cost."""
        written = self.thoughts or ()
        return replace(
            ranking,
            thoughts=None if self.thoughts is None else tuple(map(thought_of, written)),
            cost=Cost(time.perf_counter() - self.began, sum(len(thought.ids) for thought in written)),
        )
