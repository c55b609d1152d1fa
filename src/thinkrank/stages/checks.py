"""What no stage accepts.

Shape legend: B requests, N candidates.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int32

from thinkrank.data.candidates import Candidates
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.histories import Histories
from thinkrank.data.history import History
from thinkrank.data.requests import Requests
from thinkrank.errors import ThinkrankError


def checked_requests(requests: Any, catalogue: Catalogue) -> Requests:
    """Accept requests in any form that `Requests.of` knows, of items in the catalogue.

    Histories in rows of another catalogue are turned into rows of this one, by item id; see `Requests.within`.

    Raises:
        ThinkrankError: for anything else.
    """
    requests = Requests.of(requests, catalogue).within(catalogue)
    check_histories(requests.histories, len(catalogue))
    return requests


def checked_candidates(candidates: Any, catalogue: Catalogue, num_requests: int) -> Candidates:
    """Accept candidates in any form that `Candidates.of` knows, one list for each request.

    Rows of another catalogue are turned into rows of this one, by item id.

    Raises:
        ThinkrankError: for anything else, and for what is not in the catalogue.
    """
    candidates = Candidates.of(candidates, catalogue)
    if len(candidates) != num_requests:
        raise ThinkrankError(f"{candidates.name}: {len(candidates)} candidate lists for {num_requests} requests")
    theirs = candidates.catalogue
    if theirs is None or theirs is catalogue or theirs.ids == catalogue.ids:
        check_candidates(candidates.items_BN, len(catalogue))
        return candidates
    check_candidates(candidates.items_BN, len(theirs))
    named = np.unique(candidates.items_BN[candidates.mask_BN])
    rows_I = np.full(len(theirs) + 1, -1, dtype=np.int32)  # the last one is padding's
    rows_I[named] = [catalogue.row(theirs.ids[item]) for item in named]
    return replace(candidates, items_BN=rows_I[candidates.items_BN], catalogue=catalogue)


def check_items(stage: Any, catalogue: Catalogue) -> None:
    """Refuse a stage that knows other items than the data it is asked about, where answers and targets are told by row.

    Raises:
        ThinkrankError: naming the first item that differs.
    """
    theirs = getattr(getattr(stage, "stage", stage), "catalogue", None)
    if theirs is None or theirs is catalogue or theirs.frame["item"].equals(catalogue.frame["item"]):
        return
    differs = next(
        (row for row, (one, other) in enumerate(zip(theirs.ids, catalogue.ids, strict=False)) if one != other),
        min(len(theirs), len(catalogue)),
    )
    first = (catalogue.ids[differs : differs + 1] or theirs.ids[differs : differs + 1])[0]
    raise ThinkrankError(
        f"it knows other items ({len(theirs):,}) than the data it is asked about ({len(catalogue):,}), from {first!r} "
        "on: ask it about the data that it was trained on"
    )


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
