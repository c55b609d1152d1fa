"""In what order training examples are drawn, as a function of the seed alone."""

import numpy as np

from thinkrank.data.splits import Sample, Samples
from thinkrank.errors import ThinkrankError


class EpochOrder:
    """Draw all indices below a size in a new order each epoch, numbered from the first draw on.

    Args:
        size: at least 1.
        seed: equal seeds give equal orders.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def index(self, draw: int) -> int:
        """Return the index that is drawn at this number."""
        epoch, place = divmod(draw, self.size)
        if self._epoch != epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.size)
        return int(self._order[place])


class SampleStream:
    """Draw samples in the order of an `EpochOrder`; those with an empty history are passed over.

    Args:
        samples: what is drawn from.
        seed: equal seeds give equal orders.
        skip_seen: pass over samples whose target is in their history: where such items are left out of rankings,
            nobody could find them.
    """

    def __init__(self, samples: Samples, seed: int, *, skip_seen: bool) -> None:
        self.samples, self.skip_seen = samples, skip_seen
        self._order = EpochOrder(len(samples), seed)

    def sample(self, draw: int) -> int:
        """Return the index of the sample that has this number."""
        return self._order.index(draw)

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
            if len(sample.history) and not (self.skip_seen and sample.target in sample.history.items):
                taken.append((draw, sample))
                passed = 0
            else:
                passed += 1
                if passed > len(self.samples):
                    raise ThinkrankError(
                        "every training target was met before, or has nothing before it: set recpo.filter_seen to false"
                    )
            draw += 1
        return taken, draw
