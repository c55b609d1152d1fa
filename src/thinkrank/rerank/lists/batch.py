"""Impression lists as tensors.

Shape legend: B lists of a batch, N candidates of its longest list, H items of its longest history, F numeric, C
categorical and X list-wide features.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from thinkrank.data.impressions import ImpressionDataset


@dataclass(frozen=True, eq=False)
class ListBatch:
    """Some lists of a data set. Padding is -1 for items and 0 for everything else, and stands on the right.

    Attributes:
        items_BN: catalogue rows of the candidates, in displayed order.
        numeric_BNF: in the data set's units; `ListEncoder` standardises.
        categorical_BNC: codes from 1, 0 for unknown.
        context_BF: features of the list as a whole, X columns.
        history_BH: catalogue rows of the newest items of the history, oldest first.
        users_B: places in the data set's `users`.
        mask_BN: True where there is a candidate.
        feedback_BN: the signal to learn, 0 or above.
        indices_B: places of the lists in the data set.
    """

    items_BN: Int[Tensor, "B N"]
    numeric_BNF: Float[Tensor, "B N F"]
    categorical_BNC: Int[Tensor, "B N C"]
    context_BF: Float[Tensor, "B X"]
    history_BH: Int[Tensor, "B H"]
    users_B: Int[Tensor, "B"]
    mask_BN: Bool[Tensor, "B N"]
    feedback_BN: Float[Tensor, "B N"]
    indices_B: Int[Tensor, "B"]

    def __len__(self) -> int:
        return len(self.items_BN)

    def to(self, device: torch.device | str) -> "ListBatch":
        """The same batch on another device."""
        return ListBatch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def list_batch(
    dataset: ImpressionDataset,
    indices_B: Integer[np.ndarray, "B"],
    *,
    signal: str | None = None,
    max_history: int = 50,
) -> ListBatch:
    """Some lists of a data set, as wide as the longest of them.

    Args:
        dataset: where they are.
        indices_B: which, in this order.
        signal: the feedback to learn; None for the data set's first.
        max_history: newest items of a history to keep, at least 0.

    Raises:
        ThinkrankError: if there is no such signal.
    """
    indices_B = np.asarray(indices_B, dtype=np.int64)
    width = int(dataset.lengths_L[indices_B].max(initial=0))
    histories = dataset.histories.take(indices_B)
    history_BH = histories.newest(int(min(max_history, histories.lengths_L.max(initial=0))))
    return ListBatch(
        items_BN=torch.from_numpy(dataset.items_LN[indices_B, :width].astype(np.int64)),
        numeric_BNF=torch.from_numpy(dataset.numeric_LNF[indices_B, :width]),
        categorical_BNC=torch.from_numpy(dataset.categorical_LNC[indices_B, :width].astype(np.int64)),
        context_BF=torch.from_numpy(dataset.context_LF[indices_B]),
        history_BH=torch.from_numpy(history_BH.astype(np.int64)),
        users_B=torch.from_numpy(dataset.users_L[indices_B].astype(np.int64)),
        mask_BN=torch.from_numpy(dataset.mask_LN[indices_B, :width]),
        feedback_BN=torch.from_numpy(dataset.feedback(signal)[indices_B, :width]),
        indices_B=torch.from_numpy(indices_B),
    )


def batches(
    dataset: ImpressionDataset,
    size: int,
    generator: torch.Generator | None = None,
    *,
    signal: str | None = None,
    max_history: int = 50,
) -> Iterator[ListBatch]:
    """Every list of a data set once, `size` lists at a time; the last batch may be smaller.

    Args:
        dataset: where they are.
        size: lists of a batch, at least 1.
        generator: draws the order; None for that of the data set.
        signal: as for `list_batch`.
        max_history: as for `list_batch`.

    Raises:
        ThinkrankError: if there is no such signal.
    """
    order = np.arange(len(dataset)) if generator is None else torch.randperm(len(dataset), generator=generator).numpy()
    for start in range(0, len(order), size):
        yield list_batch(dataset, order[start : start + size], signal=signal, max_history=max_history)
