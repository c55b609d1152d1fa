"""Requests that R²ec has read, and what is answered from them.

Shape legend: B requests, D width.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
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
        users_BD: unit vectors of the users, or means of such.
        thoughts: one per request; None if none was written.
        began: when the work on them did, by `time.perf_counter`.
        further: thoughts that are in the means and not in the answer.
    """

    requests: Requests
    users_BD: Float[Tensor, "B D"]
    thoughts: Sequence[Completion] | None
    began: float
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


def mean_of(readings: Sequence[Reading]) -> Reading:
    """Join readings of the same requests after a thought each: scores are linear in users, so theirs are the mean."""
    first, *others = readings
    further = [thought for reading in others for thought in reading.thoughts or ()]
    return replace(first, users_BD=torch.stack([one.users_BD for one in readings]).mean(dim=0), further=further)
