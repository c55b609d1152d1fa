"""Fixed sets of candidates, so that all rankers are judged on the same lists.

Shape legend: B samples, N candidates, I items of the catalogue.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float64, Int32, Int64

from thinkrank.data.dataset import Dataset
from thinkrank.data.history import History
from thinkrank.data.splits import Samples
from thinkrank.errors import ThinkrankError

Negatives: TypeAlias = Literal["uniform", "popularity", "list"]
"""How negatives are chosen: uniformly, in proportion to how often items occur in the data, or as the best of a
first-stage retriever's list."""


@dataclass(frozen=True, eq=False)
class CandidateSets:
    """One positive and its negatives for each of some samples, in an order that tells nothing.

    Attributes:
        samples: what is to be told.
        items_BN: catalogue rows, -1 pads.
        positive_B: column of the positive.
        negatives: how they were chosen.
        seed: of the choice and the order.
    """

    samples: Samples
    items_BN: Int32[np.ndarray, "B N"]
    positive_B: Int64[np.ndarray, "B"]
    negatives: Negatives
    seed: int

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def histories(self) -> list[History]:
        """What each user did before, as views."""
        return self.samples.histories()


def draw_negatives(
    dataset: Dataset,
    user: int,
    position: int,
    count: int,
    *,
    seed: int,
    chances_I: Float64[np.ndarray, "I"] | None = None,
) -> Int32[np.ndarray, "count"]:
    """Different items that a user never meets, before or after; they depend on the seed and the position alone.

    Args:
        dataset: what users did.
        user: number of the user.
        position: of the positive among the events.
        count: how many.
        seed: equal seeds give equal negatives.
        chances_I: weights of the items; None for equal ones.

    Raises:
        ThinkrankError: if there are too few such items.
    """
    random = np.random.default_rng([seed, position])
    met = dataset.items_E[dataset.offsets[user] : dataset.offsets[user + 1]]
    weights_I = np.ones(len(dataset.catalogue)) if chances_I is None else chances_I.copy()
    weights_I[met] = 0
    left = np.flatnonzero(weights_I)
    if len(left) < count:
        raise ThinkrankError(
            f"user {dataset.users[user]!r} has met all but {len(left)} items; {count} negatives are asked for"
        )
    # the largest of weight^(1/u) are a weighted draw without replacement (Efraimidis and Spirakis 2006)
    keys = np.log(random.random(len(left))) / weights_I[left]
    return left[np.argpartition(-keys, count - 1)[:count]].astype(np.int32)


def candidate_sets(
    samples: Samples, *, size: int = 20, negatives: Negatives = "uniform", seed: int = 0
) -> CandidateSets:
    """Make a set for every sample: its target, and negatives that its user never meets.

    Args:
        samples: what is to be told.
        size: N.
        negatives: how they are chosen.
        seed: equal seeds give equal sets, whatever other samples are among them.

    Raises:
        ThinkrankError: if a user has met too many items.
    """
    dataset = samples.dataset
    counts_I = np.bincount(dataset.items_E, minlength=len(dataset.catalogue)).astype(np.float64)
    chances_I = counts_I if negatives == "popularity" else None
    rows, columns = [], []
    for user, position, target in zip(samples.users, samples.positions, samples.targets, strict=True):
        drawn = draw_negatives(dataset, int(user), int(position), size - 1, seed=seed, chances_I=chances_I)
        order = np.random.default_rng([seed, int(position), 1]).permutation(size)
        rows.append(np.append(np.int32(target), drawn)[order])
        columns.append(int(np.flatnonzero(order == 0)[0]))
    items_BN = np.stack(rows) if rows else np.empty((0, size), dtype=np.int32)
    return CandidateSets(samples, items_BN, np.array(columns, dtype=np.int64), negatives, seed)
