"""In what order training samples are drawn, as a function of the seed alone."""

import numpy as np

from thinkrank.data import Sample, Samples
from thinkrank.errors import ThinkrankError


class Draws:
    """All samples in a new order each epoch, numbered from the first draw on.

    Args:
        samples: what is drawn from.
        seed: equal seeds give equal orders.
        skip_seen: pass over samples whose target is in their history: where such items are left out of rankings,
            nobody could find them.
    """

    def __init__(self, samples: Samples, seed: int, *, skip_seen: bool) -> None:
        self.samples, self.seed, self.skip_seen = samples, seed, skip_seen
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def sample(self, draw: int) -> int:
        """Which sample has this number."""
        epoch, place = divmod(draw, len(self.samples))
        if self._epoch != epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, epoch]).permutation(len(self.samples))
        return int(self._order[place])

    def take(self, count: int, start: int) -> tuple[list[tuple[int, Sample]], int]:
        """Take samples from a number on.

        Returns:
            the samples, each with its number, and the number to go on with.

        Raises:
            ThinkrankError: if a whole epoch would be passed over.
        """
        taken: list[tuple[int, Sample]] = []
        draw, passed = start, 0
        while len(taken) < count:
            sample = self.samples[self.sample(draw)]
            if not self.skip_seen or sample.target not in sample.history.items:
                taken.append((draw, sample))
            else:
                passed += 1
                if passed > len(self.samples):
                    raise ThinkrankError("every training target was met before: set recpo.filter_seen to false")
            draw += 1
        return taken, draw
