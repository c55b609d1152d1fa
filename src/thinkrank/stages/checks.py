"""What no stage accepts.

Shape legend: B requests, N candidates.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from thinkrank.data.histories import Histories
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
    ordered_BN = np.sort(candidates_BN, axis=1)
    again = np.argwhere((ordered_BN[:, 1:] == ordered_BN[:, :-1]) & (ordered_BN[:, 1:] >= 0))
    if len(again):
        index, place = again[0]
        raise ThinkrankError(f"list {index} holds item {ordered_BN[index, place]} twice")


def check_histories(histories: Sequence[History], num_items: int) -> None:
    """Refuse histories with items that are not in the catalogue.

    Raises:
        ThinkrankError: naming the first such history and item.
    """
    if isinstance(histories, Histories) and (histories.items_E < num_items).all() and (histories.items_E >= 0).all():
        return
    for index, history in enumerate(histories):
        if len(history) and (history.items.min() < 0 or history.items.max() >= num_items):
            item = next(int(item) for item in history.items if not 0 <= item < num_items)
            raise ThinkrankError(f"history {index} holds item {item}; the catalogue has rows 0 to {num_items - 1}")
