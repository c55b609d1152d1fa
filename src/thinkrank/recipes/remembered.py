"""A retriever whose scores are kept, so that what is made of it in several ways asks it once.

Shape legend: B requests, I items of the catalogue.
"""

from typing import Any

import numpy as np
from jaxtyping import Float32

from thinkrank.data.requests import Requests
from thinkrank.options import Options
from thinkrank.retrieve.base import DenseRetriever

_MOST_BYTES = 2**30


class Remembered(DenseRetriever[Any]):
    """Retriever that answers as another does, and keeps the scores of every batch as far as the memory goes.

    Args:
        stage: a retriever with `scores`.
    """

    kind = "remembered"
    config_class = Options

    def __init__(self, stage: Any) -> None:
        super().__init__(stage.config)
        self.stage = stage
        self.learn(stage.catalogue, {})
        self._kept: dict[bytes, Float32[np.ndarray, "B I"]] = {}
        self._bytes = 0

    def scores(self, requests: Any) -> Float32[np.ndarray, "B I"]:
        """Return the other's scores, from memory where the same histories were asked about together before."""
        requests = self.checked(requests)
        key = _key(requests)
        if key not in self._kept:
            scores_BI = self.stage.scores(requests)
            self._bytes += scores_BI.nbytes
            if self._bytes > _MOST_BYTES:
                return np.asarray(scores_BI)
            self._kept[key] = scores_BI
        return self._kept[key].copy()


def _key(requests: Requests) -> bytes:
    """Tell batches of histories apart."""
    parts = []
    for history in requests.histories:
        parts += [len(history).to_bytes(8, "little"), history.items.tobytes()]
        parts += [array.tobytes() for array in (history.times, history.ratings) if array is not None]
    return b"".join(parts)
