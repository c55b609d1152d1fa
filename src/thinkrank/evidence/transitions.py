"""Who chose what after what: pairs of one person's choices in their order, near ones counting more.

A person counts for a pair of items at most once, by the nearest of the places where they follow each other. Choices of
one day have no order among themselves where `History.tied` says so: each follows what stands before that day.

Shape legend: I items, N events of one history, K distinct ordered pairs of one person.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float64, Int, Int64
from pydantic import Field, PositiveFloat, PositiveInt

from thinkrank.data.history import History
from thinkrank.errors import ThinkrankError
from thinkrank.options import Options

_SECONDS_PER_DAY = 86_400


class TransitionOptions(Options):
    """Say how much a pair counts."""

    steps: PositiveInt = Field(1, description="how many events later a choice may be; 1 is the next one alone")
    decay: float = Field(1.0, gt=0, le=1, description="what one step further counts relative to the nearer one")
    half_life_days: PositiveFloat | None = Field(
        None, description="days between two choices that halve what the pair counts; without it times make no odds"
    )


class Transitions:
    """Sum over people what each ordered pair of items counts.

    Args:
        histories: of people, oldest first; their places are the numbers by which one is left out.
        num_items: size of the catalogue.
        options: how much a pair counts.

    Raises:
        ThinkrankError: if a half-life is asked for and a history has no times.
    """

    def __init__(self, histories: Sequence[History], num_items: int, options: TransitionOptions | None = None) -> None:
        self.options, self._histories, self._num_items = options or TransitionOptions(), histories, num_items
        cells, weights = _joined(self._pairs(history) for history in histories)
        order = np.argsort(cells, kind="stable")
        self._cells, self._weights = cells[order], weights[order]
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def row(self, item: int, without: int | None = None) -> Float64[np.ndarray, "I"]:
        """Return what the pairs of one item with each that came later count, together.

        Args:
            item: the earlier one.
            without: number of the person who is left out.
        """
        if item not in self._kept:
            row_I = self._sums(self._cells, self._weights, item)
            later_N = np.flatnonzero(row_I)
            self._kept[item] = later_N, row_I[later_N]
        later_N, sums_N = self._kept[item]
        row_I = np.zeros(self._num_items)
        row_I[later_N] = sums_N
        if without is not None:
            row_I -= self._sums(*self._pairs(self._histories[without]), item)
        return row_I

    def _sums(
        self, cells: Int64[np.ndarray, "K"], weights: Float64[np.ndarray, "K"], item: int
    ) -> Float64[np.ndarray, "I"]:
        first, last = np.searchsorted(cells, [item * self._num_items, (item + 1) * self._num_items])
        return np.bincount(cells[first:last] - item * self._num_items, weights[first:last], self._num_items) * 1.0

    def _pairs(self, history: History) -> tuple[Int64[np.ndarray, "K"], Float64[np.ndarray, "K"]]:
        """List a person's pairs, ascending by `earlier * I + later`, and what each counts."""
        half_life, items_N, reads_N = self.options.half_life_days, history.items.astype(np.int64), history.reads
        if half_life is not None and history.times is None and len(history):
            raise ThinkrankError("half_life_days needs the times of interactions, and this data has none")
        found = []
        for step in range(min(self.options.steps, len(history))):
            later = np.flatnonzero(reads_N >= step)
            earlier = reads_N[later] - step
            weights = np.full(len(later), self.options.decay**step)
            if half_life is not None and history.times is not None:
                weights *= 0.5 ** ((history.times[later] - history.times[earlier]) / (half_life * _SECONDS_PER_DAY))
            apart = items_N[earlier] != items_N[later]
            found.append(((items_N[earlier] * self._num_items + items_N[later])[apart], weights[apart]))
        cells, weights = _joined(found)
        distinct, place = np.unique(cells, return_inverse=True)
        most = np.zeros(len(distinct))
        np.maximum.at(most, place, weights)
        return distinct, most


def _joined(
    parts: Iterable[tuple[Int[np.ndarray, "_"], Float64[np.ndarray, "_"]]],
) -> tuple[Int64[np.ndarray, "_"], Float64[np.ndarray, "_"]]:
    cells, weights = [np.zeros(0, np.int64)], [np.zeros(0)]
    for some, their in parts:
        cells.append(some)
        weights.append(their)
    return np.concatenate(cells), np.concatenate(weights)
