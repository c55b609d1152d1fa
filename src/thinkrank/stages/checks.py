"""What no stage accepts.

Shape legend: B requests, N candidates.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from thinkrank.data.history import History
from thinkrank.errors import ThinkrankError


def check_candidates(candidates_BN: Int32[np.ndarray, "B N"], num_items: int) -> None:
    """Refuse candidates that are neither catalogue rows nor padding, and lists that name an item twice.

    Raises:
        ThinkrankError: naming the first such list and item.
    """
    wrong = np.argwhere((candidates_BN < -1) | (candidates_BN >= num_items))
    if len(wrong):
        row, place = wrong[0]
        raise ThinkrankError(
            f"list {row} holds item {candidates_BN[row, place]}; the catalogue has rows 0 to {num_items - 1}"
        )
    for index, row in enumerate(candidates_BN):
        items, counts = np.unique(row[row >= 0], return_counts=True)
        if (counts > 1).any():
            raise ThinkrankError(f"list {index} holds item {items[counts > 1][0]} twice")


def check_histories(histories: Sequence[History], num_items: int) -> None:
    """Refuse histories with items that are not in the catalogue.

    Raises:
        ThinkrankError: naming the first such history and item.
    """
    for index, history in enumerate(histories):
        if len(history) and (history.items.min() < 0 or history.items.max() >= num_items):
            item = next(int(item) for item in history.items if not 0 <= item < num_items)
            raise ThinkrankError(f"history {index} holds item {item}; the catalogue has rows 0 to {num_items - 1}")
