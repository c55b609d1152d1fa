"""Candidate lists as tensors.

Shape legend: B lists of a batch, N candidates of its longest list, H items of its longest history, F numeric, C
categorical and X list-wide features.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, Shaped
from torch import Tensor

from thinkrank.data.candidates import Candidates
from thinkrank.data.histories import Histories
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.requests import Requests

BatchT = TypeVar("BatchT", bound="ListBatch")


@dataclass(frozen=True, eq=False)
class ListBatch:
    """Hold some lists that are to be ordered. Padding is -1 for items and 0 for everything else, on the right.

    Attributes:
        items_BN: catalogue rows of the candidates, in the order given.
        numeric_BNF: in the units they came in; `ListEncoder` standardises.
        categorical_BNC: codes from 1, 0 for unknown.
        context_BF: features of the list as a whole, X columns.
        history_BH: catalogue rows of the newest items of the history, oldest first.
        users_B: rows of the users; -1 where unknown.
        mask_BN: True where there is a candidate.
        indices_B: places of the lists among all requests.
    """

    items_BN: Int[Tensor, "B N"]
    numeric_BNF: Float[Tensor, "B N F"]
    categorical_BNC: Int[Tensor, "B N C"]
    context_BF: Float[Tensor, "B X"]
    history_BH: Int[Tensor, "B H"]
    users_B: Int[Tensor, "B"]
    mask_BN: Bool[Tensor, "B N"]
    indices_B: Int[Tensor, "B"]

    def __len__(self) -> int:
        return len(self.items_BN)

    def to(self: BatchT, device: torch.device | str) -> BatchT:
        """Copy the batch to another device."""
        return type(self)(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def take(self: BatchT, part: slice) -> BatchT:
        """Return some of the lists, as wide as before."""
        return type(self)(**{field.name: getattr(self, field.name)[part] for field in fields(self)})


@dataclass(frozen=True, eq=False)
class TrainingBatch(ListBatch):
    """Hold displayed lists together with what users did. What answers is typed to be given a `ListBatch`.

    Attributes:
        feedback_BN: the signal to learn, 0 or above.
    """

    feedback_BN: Float[Tensor, "B N"]


def list_batch(requests: Requests, candidates: Candidates, part: slice, *, max_history: int = 50) -> ListBatch:
    """Turn some requests and their candidates into tensors, as wide as the longest list.

    `part` is a run of neighbours. Users are told apart when a `ListReader` looks up what they are called. Of a
    history the `max_history` newest items are kept, at least 0.
    """
    indices_B, some = np.arange(len(requests))[part], candidates[part]
    size = (len(some), min(int(some.lengths_B.max(initial=1)), candidates.items_BN.shape[1]))
    numeric_BNF, categorical_BNC = (
        np.zeros((*size, 0)) if values is None else values[:, : size[1]]
        for values in (some.numeric_BNF, some.categorical_BNC)
    )
    return ListBatch(
        items_BN=_whole(some.items_BN[:, : size[1]]),
        numeric_BNF=_real(numeric_BNF),
        categorical_BNC=_whole(categorical_BNC),
        context_BF=_real(np.zeros((size[0], 0)) if requests.context_BX is None else requests.context_BX[part]),
        history_BH=_newest(Histories.of(requests.histories[part]), max_history),
        users_B=torch.full(size[:1], -1),
        mask_BN=torch.from_numpy(some.mask_BN[:, : size[1]].copy()),
        indices_B=_whole(indices_B),
    )


def training_batch(
    dataset: ImpressionDataset, indices_B: Integer[np.ndarray, "B"], *, signal: str | None = None, max_history: int = 50
) -> TrainingBatch:
    """Turn some displayed lists and the feedback on them into tensors, as wide as the longest list.

    The lists stand in the order of `indices_B`, with the newest items of their histories and a feedback signal, by
    default the first of the data set.

    Raises:
        ThinkrankError: if there is no such signal.
    """
    indices_B = np.asarray(indices_B, dtype=np.int64)
    width = int(dataset.lengths_L[indices_B].max(initial=0))
    return TrainingBatch(
        items_BN=_whole(dataset.items_LN[indices_B, :width]),
        numeric_BNF=_real(dataset.numeric_LNF[indices_B, :width]),
        categorical_BNC=_whole(dataset.categorical_LNC[indices_B, :width]),
        context_BF=_real(dataset.context_LF[indices_B]),
        history_BH=_newest(dataset.histories.take(indices_B), max_history),
        users_B=_whole(dataset.users_L[indices_B]),
        mask_BN=torch.from_numpy(dataset.mask_LN[indices_B, :width]),
        indices_B=_whole(indices_B),
        feedback_BN=_real(dataset.feedback(signal)[indices_B, :width]),
    )


def batches(requests: Requests, candidates: Candidates, size: int, *, max_history: int = 50) -> Iterator[ListBatch]:
    """Yield every request once, in order, `size` at a time; the last batch may be smaller."""
    for start in range(0, len(requests), size):
        yield list_batch(requests, candidates, slice(start, start + size), max_history=max_history)


def training_batches(
    dataset: ImpressionDataset,
    size: int,
    generator: torch.Generator | None = None,
    *,
    signal: str | None = None,
    max_history: int = 50,
) -> Iterator[TrainingBatch]:
    """Yield every displayed list of a data set once, `size` at a time; the last batch may be smaller.

    The generator draws the order; None for that of the data set. The rest is as for `training_batch`.

    Raises:
        ThinkrankError: if there is no such signal.
    """
    order = np.arange(len(dataset)) if generator is None else torch.randperm(len(dataset), generator=generator).numpy()
    for start in range(0, len(order), size):
        yield training_batch(dataset, order[start : start + size], signal=signal, max_history=max_history)


def _whole(values: Shaped[np.ndarray, "..."]) -> Int[Tensor, "..."]:
    return torch.from_numpy(values.astype(np.int64))


def _real(values: Shaped[np.ndarray, "..."]) -> Float[Tensor, "..."]:
    return torch.from_numpy(values.astype(np.float32))  # a copy, so nobody writes into a data set


def _newest(histories: Histories, count: int) -> Int[Tensor, "B H"]:
    return _whole(histories.newest(int(min(count, histories.lengths_L.max(initial=0)))))
