"""A retriever whose scores are kept, so that what is made of it in several ways asks it once.

An eighth of the machine's memory is for what is kept, of all retrievers that `remembering` is given together. When that
is full, histories that were not asked about before are answered anew each time: slower, and the same.

Shape legend: B requests, I items of the catalogue.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from thinkrank.data.history import History
from thinkrank.options import Options
from thinkrank.retrieve.base import DenseRetriever

_SHARE = 8


@dataclass
class Room:
    """Bound what is remembered.

    Attributes:
        bytes_left: that may still be kept.
    """

    bytes_left: int

    @classmethod
    def of_machine(cls) -> "Room":
        """Take an eighth of the machine's memory; 1 GiB where the system does not tell."""
        if sys.platform == "win32":
            return cls(2**30)
        return cls(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _SHARE)


class Remembered(DenseRetriever[Any]):
    """Retriever that answers as another does, and keeps the scores of every history as far as its room goes.

    Args:
        stage: a retriever with `scores`.
        room: shared with others; None for one of its own.
    """

    kind = "remembered"
    config_class = Options

    def __init__(self, stage: Any, room: Room | None = None) -> None:
        super().__init__(stage.config)
        self.stage = stage
        self.learn(stage.catalogue, {})
        self.room = room or Room.of_machine()
        self._kept: dict[bytes, np.ndarray] = {}

    def scores(self, requests: Any) -> Float32[np.ndarray, "B I"]:
        """Return the other's scores, from memory for histories that it was asked about before."""
        requests = self.checked(requests)
        keys = [_key(history) for history in requests.histories]
        new = {key: row for row, key in enumerate(keys) if key not in self._kept}
        asked = [*new.values()]
        scores_NI = self.stage.scores(requests.take(np.array(asked))) if asked else np.zeros((0, 0), np.float32)
        found = dict(zip(new, scores_NI, strict=True))
        if scores_NI.nbytes <= self.room.bytes_left:
            self._kept |= found
            self.room.bytes_left -= scores_NI.nbytes
        if not keys:
            return np.zeros((0, len(self.catalogue)), np.float32)
        return np.stack([found[key] if key in found else self._kept[key] for key in keys])


def remembering(parts: Mapping[str, Any]) -> dict[str, Remembered]:
    """Return retrievers, by name, that remember what these say and share one room."""
    room = Room.of_machine()
    return {name: part if isinstance(part, Remembered) else Remembered(part, room) for name, part in parts.items()}


def _key(history: History) -> bytes:
    """Tell histories apart."""
    arrays = (history.items, history.times, history.ratings, history.weights)
    told = [b"" if array is None else array.tobytes() for array in arrays]
    return b"".join(part for one in told for part in (len(one).to_bytes(8, "little"), one))
