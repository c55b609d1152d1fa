"""A retriever whose scores are kept, so that what is made of it in several ways asks it once.

Shape legend: B requests, I items of the catalogue.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32

from thinkrank.cascade.gathering import some
from thinkrank.data.history import History
from thinkrank.options import Options
from thinkrank.retrieve.base import DenseRetriever

_MOST_BYTES = 2**30


class Remembered(DenseRetriever[Any]):
    """Retriever that answers as another does, and keeps the scores of every history as far as the memory goes.

    Args:
        stage: a retriever with `scores`.
    """

    kind = "remembered"
    config_class = Options

    def __init__(self, stage: Any) -> None:
        super().__init__(stage.config)
        self.stage = stage
        self.learn(stage.catalogue, {})
        self._kept: dict[bytes, np.ndarray] = {}
        self._bytes = 0

    def scores(self, requests: Any) -> Float32[np.ndarray, "B I"]:
        """Return the other's scores, from memory for histories that it was asked about before."""
        requests = self.checked(requests)
        keys = [_key(history) for history in requests.histories]
        new = {key: row for row, key in enumerate(keys) if key not in self._kept}
        asked = [*new.values()]
        scores_NI = self.stage.scores(some(requests, np.array(asked))) if asked else np.zeros((0, 0), np.float32)
        found = dict(zip(new, scores_NI, strict=True))
        if self._bytes + scores_NI.nbytes <= _MOST_BYTES:
            self._kept |= found
            self._bytes += scores_NI.nbytes
        if not keys:
            return np.zeros((0, len(self.catalogue)), np.float32)
        return np.stack([found[key] if key in found else self._kept[key] for key in keys])


def remembering(parts: Mapping[str, Any]) -> dict[str, Remembered]:
    """Return retrievers, by name, that remember what these say."""
    return {name: part if isinstance(part, Remembered) else Remembered(part) for name, part in parts.items()}


def _key(history: History) -> bytes:
    """Tell histories apart."""
    arrays = (history.items, history.times, history.ratings, history.weights)
    told = [b"" if array is None else array.tobytes() for array in arrays]
    return b"".join(part for one in told for part in (len(one).to_bytes(8, "little"), one))
