"""Thoughts that nobody writes: what the crowd did with the items of a history, as a tool counted it."""

import time
from collections.abc import Sequence

import numpy as np

from thinkrank.data.catalogue import Catalogue
from thinkrank.data.history import History
from thinkrank.errors import ThinkrankError
from thinkrank.evidence.crowd import Crowd
from thinkrank.evidence.told import CrowdTeller
from thinkrank.language import Completion
from thinkrank.prompts.retrieval import Prompts, named
from thinkrank.teachers.attributes import short_title


class CrowdThoughts:
    """Put what a `CrowdTeller` tells into the tokens of a model, items as its item tokens where it has some.

    Args:
        crowd: what was counted; histories of training are left out of it by their numbers there.
        catalogue: the items.
        prompts: that the thoughts stand behind.
    """

    def __init__(self, crowd: Crowd, catalogue: Catalogue, prompts: Prompts) -> None:
        self.teller, self._prompts = CrowdTeller(crowd, catalogue), prompts
        self._titles = [short_title(title) for title in catalogue.titles]
        self._made_of = crowd, catalogue, prompts

    def is_of(self, *made_of: object) -> bool:
        """Tell whether it was made of these: what is told depends on nothing else."""
        return all(one is other for one, other in zip(self._made_of, made_of, strict=True))

    def ids(self, history: History, without: int | None = None) -> list[int]:
        """Tell of a history, without the user of this number."""
        return self._prompts.naming(self.teller.told(history, without), self._titles)

    def write(self, histories: Sequence[History]) -> list[Completion]:
        """Tell of each history as if it had been written."""
        return [self._completion(history) for history in histories]

    def _completion(self, history: History) -> Completion:
        began = time.perf_counter()
        parts = self.teller.told(history)
        ids = tuple(self._prompts.naming(parts, self._titles))
        certain = (0.0,) * len(ids)  # nothing was drawn
        text = named(parts, self._titles)
        seconds = time.perf_counter() - began
        return Completion(ids, text, certain, certain, certain, "closed", seconds, len(ids), None)


class CrowdThoughtsOfOthers(CrowdThoughts):
    """Tell, in training, of another user in the place of the one asked about, who is still counted himself.

    Args:
        crowd: what was counted.
        catalogue: the items.
        prompts: that the thoughts stand behind.
        histories: of training, by user number.
    """

    def __init__(self, crowd: Crowd, catalogue: Catalogue, prompts: Prompts, histories: Sequence[History]) -> None:
        super().__init__(crowd, catalogue, prompts)
        self._histories = histories
        self._known = [number for number, history in enumerate(histories) if len(history)]

    def ids(self, history: History, without: int | None = None) -> list[int]:
        """Tell of a part of another's history, at most as long, as it would be told in his own training.

        The number `without` and the history decide who that is; where there is nobody else, of an empty history.
        """
        known, number = self._known, -1 if without is None else without
        random = np.random.default_rng([number + 1, len(history), *history.items[-1:].tolist()])
        at = int(random.integers(len(known)))
        other = known[at] if known[at] != number else known[at - 1]
        if other == number:
            return super().ids(history[:0])
        end = int(random.integers(len(self._histories[other]))) + 1
        return super().ids(self._histories[other][max(0, end - len(history)) : end], without=other)


def crowd_thoughts(crowd: Crowd | None, catalogue: Catalogue, prompts: Prompts) -> CrowdThoughts:
    """Return who tells what a crowd did.

    Raises:
        ThinkrankError: if nothing was counted.
    """
    if crowd is None:
        raise ThinkrankError("thinker = crowd, and nothing was counted: train with training.thought_source = crowd")
    return CrowdThoughts(crowd, catalogue, prompts)
