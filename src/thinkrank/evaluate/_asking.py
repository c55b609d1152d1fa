"""How systems are asked, the same in all three protocols: they see requests and candidates, and no fault is nameless.

Shape legend: B requests, N candidates.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int32

from thinkrank.data.candidates import Candidates
from thinkrank.data.histories import Histories
from thinkrank.data.history import History
from thinkrank.data.requests import Requests
from thinkrank.errors import ThinkrankError
from thinkrank.stages.answers import Ranking


def checked_cutoffs(systems: Mapping[str, Any], num_asked: int, noun: str, cutoffs: Sequence[int]) -> tuple[int, ...]:
    """Return each cut-off once, smallest first.

    `noun` names one of the things, `num_asked` in number, that systems are asked about.

    Raises:
        ValueError: without systems, anything to ask about or cut-offs, or with a cut-off below 1.
    """
    if not systems or not num_asked or not cutoffs:
        raise ValueError(f"evaluation needs at least one system, one {noun} and one cut-off")
    if min(cutoffs) < 1:
        raise ValueError(f"cut-offs must be at least 1, got {min(cutoffs)}")
    return tuple(sorted(set(cutoffs)))


def detached(requests: Requests) -> Requests:
    """Copy the histories of requests: as views of the log they would lie beside what the users did next."""
    histories = requests.histories
    if isinstance(histories, Histories):
        return replace(requests, histories=histories.packed())
    return replace(requests, histories=[_copy(history) for history in histories])


def _copy(history: History) -> History:
    times, ratings, weights = history.times, history.ratings, history.weights
    return History(
        history.items.copy(),
        None if times is None else times.copy(),
        None if ratings is None else ratings.copy(),
        catalogue=history.catalogue,
        weights=None if weights is None else weights.copy(),
    )


@contextmanager
def named(system: str) -> Iterator[None]:
    """Put a system's name before what is wrong with its answer."""
    try:
        yield
    except ValueError as error:
        fault = ThinkrankError if isinstance(error, ThinkrankError) else ValueError
        raise fault(f"{system}: {error}") from error


def tokens_of(ranking: Ranking) -> int:
    """Return how many tokens an answer took, 0 where it does not tell."""
    return 0 if ranking.cost is None else ranking.cost.tokens


def ordered_columns(ranking: Ranking, candidates: Candidates) -> Int32[np.ndarray, "B N"]:
    """Return where each answered item stood among the candidates, -1 after a list's end.

    Raises:
        ValueError: unless every row holds every candidate of its list once, best first, then -1.
    """
    columns_BN, items_BN, mask_BN = ranking.columns_BK, candidates.items_BN, candidates.mask_BN
    if columns_BN is None:
        raise ValueError("the answer does not say where its items stood among the candidates")
    if columns_BN.shape != items_BN.shape:
        raise ValueError(f"the answer has shape {columns_BN.shape}, not {items_BN.shape}")
    width = items_BN.shape[1]
    expected_BN = np.where(mask_BN, np.arange(width), width)
    found_BN = np.where(columns_BN >= 0, columns_BN, width)
    lengths_B1 = mask_BN.sum(axis=1, keepdims=True)
    wrong_B = (np.sort(found_BN, axis=1) != np.sort(expected_BN, axis=1)).any(axis=1)
    wrong_B |= ((columns_BN >= 0) != (np.arange(width) < lengths_B1)).any(axis=1)
    if wrong_B.any():
        raise ValueError(f"the answer to list {int(wrong_B.argmax())} is not an order of its candidates")
    standing_BN = np.where(columns_BN >= 0, np.take_along_axis(items_BN, np.maximum(columns_BN, 0), axis=1), -1)
    if (standing_BN != ranking.items_BK).any():
        at = int((standing_BN != ranking.items_BK).any(axis=1).argmax())
        raise ValueError(f"the answer to list {at} names other items than those of its columns")
    return columns_BN
