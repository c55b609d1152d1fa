"""What an item's token can tell beside the item: how it was rated, and how long after the event before it.

Shape legend: N events of a history.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Int64

from thinkrank.data.history import History

Mark: TypeAlias = Literal["rating", "gap"]

_RATINGS = np.array([1.5, 2.5, 3.5, 4.5], np.float32)
"""Bounds of a rating's steps, in stars; NaN and no ratings have a step of their own, the first."""
_GAPS = np.array([60, 3600, 86_400, 30 * 86_400], np.int64)
"""Bounds of a gap's steps, in seconds."""
_STEPS = 6
"""Steps of each kind of mark, the first one for what is not known."""


def num_marks(kinds: Sequence[Mark]) -> int:
    """Count the marks that an item can have."""
    return int(_STEPS ** len(kinds))


def marks_of(history: History, kinds: Sequence[Mark]) -> Int64[np.ndarray, "N"]:
    """Return the mark of each event; 0 where nothing is known.

    A gap is the time since the event before, so a mark stays when a history goes on; the first event shown has none.
    """
    marks_N = np.zeros(len(history), dtype=np.int64)
    for kind in kinds:
        marks_N = marks_N * _STEPS + (_rated(history) if kind == "rating" else _waited(history))
    return marks_N


def _rated(history: History) -> Int64[np.ndarray, "N"]:
    if history.ratings is None:
        return np.zeros(len(history), dtype=np.int64)
    return np.where(np.isnan(history.ratings), 0, 1 + np.digitize(history.ratings, _RATINGS))


def _waited(history: History) -> Int64[np.ndarray, "N"]:
    if history.times is None or not len(history):
        return np.zeros(len(history), dtype=np.int64)
    return np.append(0, 1 + np.digitize(np.diff(history.times), _GAPS))
