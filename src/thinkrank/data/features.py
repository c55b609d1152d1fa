"""What can be said of a candidate from what happened before its list was shown.

`with_running_features` counts over a whole log at once, `FeatureState` along with a system at work; what they say of a
list is the same, bit for bit.

Shape legend: L lists, N candidates, F numeric features, H items of a history, E events, Q queries, R records (slots
that hold a candidate, list by list), P pairs of a list and an item of its history, V running columns.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float32, Float64, Int32, Int64, Shaped

from thinkrank.data.candidates import Candidates
from thinkrank.data.catalogue import Catalogue
from thinkrank.data.histories import Histories
from thinkrank.data.impressions import ImpressionDataset
from thinkrank.data.requests import Requests
from thinkrank.errors import ThinkrankError

RUNNING_NAMES = (
    "shown_before",
    "taken_before",
    "rate_before",
    "shown_to_user",
    "seen_times",
    "seen_lately",
    "past_last_seen",
)
"""The columns that are added, in this order."""
NEWEST = 200
"""Events of a history that ``seen_times`` and ``seen_lately`` look at."""
_LISTS_AT_ONCE = 10_000


def with_running_features(
    data: ImpressionDataset, *, signal: str | None = None, known_L: Int64[np.ndarray, "L"] | None = None
) -> ImpressionDataset:
    """Add what a system that counts along would know of each candidate at the second it is shown.

    ==============  ==================================================================================================
    shown_before    log(1 + s), s being how often the item was shown in lists whose feedback was known by then
    taken_before    log(1 + c), c being how often it got feedback there
    rate_before     (c + 1) / (s + 20), a click-through rate that begins at 1 in 20
    shown_to_user   log(1 + how often it was shown to this user in such lists)
    seen_times      log(1 + how often the item stands among the newest `NEWEST` events of the list's history)
    seen_lately     1 / (1 + number of events since it last stood there), 0 if it does not
    past_last_seen  ± log(1 + places), how far below (+) or above (-) the candidate that was seen last the item is
                    displayed: users go on reading where they stopped; 0 if no candidate was seen
    ==============  ==================================================================================================

    Known by then means before the second of the list: lists of the same second know nothing of each other. So the
    columns hold nothing that happens later, and may be made once for lists that are split afterwards; in the test part
    they go on counting, as a system at work would.

    Args:
        data: lists in any order.
        signal: what counts as taken where it is above 0; None for the first signal. Without any, nothing was taken.
        known_L: when the feedback on each list was complete, in seconds since 1970; None for when it was shown.

    Raises:
        ThinkrankError: if there is no such signal.
    """
    known_L = data.times_L if known_L is None else known_L
    taken_LN = data.feedback(signal) > 0 if data.signals else np.zeros_like(data.mask_LN)
    lists_R, slots_R = np.nonzero(data.mask_LN)
    items_R, known_R, times_R = data.items_LN[lists_R, slots_R], known_L[lists_R], data.times_L[lists_R]
    taken_R = taken_LN[lists_R, slots_R].astype(np.float64)
    ones_R = np.ones_like(taken_R)
    pairs_R = data.users_L[lists_R].astype(np.int64) * len(data.catalogue) + items_R
    _, pairs_R = np.unique(pairs_R, return_inverse=True)
    columns_LNV = _running_columns(
        data.items_LN,
        data.histories,
        _total_before(items_R, known_R, ones_R, items_R, times_R),
        _total_before(items_R, known_R, taken_R, items_R, times_R),
        _total_before(pairs_R, known_R, ones_R, pairs_R, times_R),
    )
    return replace(
        data,
        numeric_LNF=np.concatenate([data.numeric_LNF, columns_LNV], axis=2),
        numeric_names=(*data.numeric_names, *RUNNING_NAMES),
    )


_Shown = tuple[int, int, str, list[tuple[str, bool]]]
"""When the feedback on a list was known, its number, its user, and what was shown, with whether it was taken."""


class FeatureState:
    """Count along with a system at work, and tell what is known of each candidate at the second it is asked about.

    Items and users are known by their ids, so catalogues may change from day to day.

    Args:
        catalogue: whose rows candidates are if they do not say so; None if they always do.
        signal: what counts as taken where it is above 0; None for the first signal of each data set.
    """

    def __init__(self, catalogue: Catalogue | None = None, *, signal: str | None = None) -> None:
        self._catalogue, self._signal = catalogue, signal
        self._shown: Counter[str] = Counter()
        self._taken: Counter[str] = Counter()
        self._shown_to: Counter[tuple[str, str]] = Counter()
        self._waiting: list[_Shown] = []
        self._lists = 0
        self._moment: int | None = None  # the latest that was asked about
        self._earliest: int | None = None  # that may be asked about
        self._counted: list[_Shown] = []  # since then, to be taken back
        self._is_any_order = False

    def update(
        self, shown: ImpressionDataset | pl.DataFrame, *, known_L: Int64[np.ndarray, "L"] | None = None
    ) -> "FeatureState":
        """Take in what was shown and what was taken of it; returns itself.

        It counts from the second after its feedback was known, so it may be taken in at any time before that, and
        lists of one second know nothing of each other. What comes later than that counts from when it comes.

        Args:
            shown: lists, or events: a table with a row for each slot that was shown, of the columns ``user``, ``item``
                (ids), ``time`` (when the feedback was known, in seconds since 1970) and ``taken`` (yes or no).
            known_L: when the feedback on each list was complete; None for when it was shown. Events say it themselves.

        Raises:
            ThinkrankError: if there is no such signal or column.
        """
        if isinstance(shown, ImpressionDataset):
            taken_LN = shown.feedback(self._signal) > 0
            known_L = shown.times_L if known_L is None else known_L
            ids, users = shown.catalogue.ids, shown.users
            for row, length in enumerate(shown.lengths_L.tolist()):
                items = [ids[item] for item in shown.items_LN[row, :length].tolist()]
                slots = list(zip(items, taken_LN[row, :length].tolist(), strict=True))
                self._wait(int(known_L[row]), users[shown.users_L[row]], slots)
            return self
        columns = ("time", "user", "item", "taken")
        missing = [name for name in columns if name not in shown.columns]
        if missing:
            raise ThinkrankError(f"events have no column {', '.join(missing)}; they need {', '.join(columns)}")
        for time, user, item, taken in shown.select(columns).iter_rows():
            self._wait(int(time), str(user), [(str(item), bool(taken))])
        return self

    def features(self, requests: Any, candidates: Any) -> Candidates:
        """Add the columns of `with_running_features` to candidates, as of the second of each request.

        Requests whose time is unknown know everything that was taken in. What a user did before is looked up in the
        request's history, in the rows of the candidates' catalogue.

        Args:
            requests: see `Requests.of`; of any order in time, but none before the second that was asked about last.
            candidates: see `Candidates.of`.

        Raises:
            ThinkrankError: if a request lies before one that was answered earlier, or it is not known whose rows the
                candidates are.
        """
        candidates = Candidates.of(candidates, self._catalogue)
        catalogue = self._catalogue if candidates.catalogue is None else candidates.catalogue
        requests = Requests.of(requests, catalogue)
        if catalogue is None:
            raise ThinkrankError(f"{candidates.name}: no catalogue says whose rows they are; give one to FeatureState")
        requests = requests.within(catalogue)
        if len(requests) != len(candidates):
            raise ThinkrankError(f"{candidates.name}: {len(candidates)} candidate lists for {len(requests)} requests")
        ids, rows = catalogue.ids, candidates.items_BN.tolist()
        counts: list[list[tuple[int, int, int]]] = [[] for _ in rows]
        with self.any_order():
            for row, time in self._in_order(requests.times_B, len(rows)):
                self._settle(time)
                user = None if requests.users is None else requests.users[row]
                counts[row] = [self._counts(user, ids[item]) for item in rows[row] if item >= 0]
        counts_R3 = np.array([one for each in counts for one in each], dtype=np.float64).reshape(-1, 3)
        columns_BNV = _running_columns(candidates.items_BN, Histories.of(requests.histories), *counts_R3.T)
        given_BNF = [] if candidates.numeric_BNF is None else [candidates.numeric_BNF]
        return replace(
            candidates,
            numeric_BNF=np.concatenate([*given_BNF, columns_BNV], axis=2),
            numeric_names=(*candidates.numeric_names, *RUNNING_NAMES),
        )

    @contextmanager
    def any_order(self) -> Iterator[None]:
        """Let questions be asked meanwhile in any order of time, and again; none before the second asked about last."""
        is_within, self._is_any_order = self._is_any_order, True
        try:
            yield
        finally:
            self._is_any_order = is_within
            if not is_within and self._moment is not None:
                self._settle(self._moment)
                self._earliest = self._moment
                self._counted.clear()

    def _counts(self, user: str | None, item: str) -> tuple[int, int, int]:
        return self._shown[item], self._taken[item], 0 if user is None else self._shown_to[user, item]

    def _wait(self, known: int, user: str, slots: list[tuple[str, bool]]) -> None:
        heapq.heappush(self._waiting, (known, self._lists, user, slots))
        self._lists += 1  # so that lists themselves are never compared

    def _in_order(self, times_B: Int64[np.ndarray, "B"] | None, count: int) -> Iterable[tuple[int, int]]:
        """Yield requests and their seconds, the earliest first."""
        if times_B is None:
            latest = max((known for known, *_ in self._waiting), default=-1) + 1
            return ((row, max(latest, self._moment or 0)) for row in range(count))
        order = np.argsort(times_B, kind="stable").tolist()
        return ((row, int(times_B[row])) for row in order)

    def _settle(self, moment: int) -> None:
        """Count what was known before a second."""
        if self._earliest is not None and moment < self._earliest:
            raise ThinkrankError(
                f"a request of second {moment} comes after one of second {self._earliest}, before which everything has "
                "been counted: ask in the order of time"
            )
        self._moment = moment if self._moment is None else max(moment, self._moment)
        while self._counted and self._counted[-1][0] >= moment:
            heapq.heappush(self._waiting, self._count(self._counted.pop(), -1))
        while self._waiting and self._waiting[0][0] < moment:
            self._counted.append(self._count(heapq.heappop(self._waiting), 1))

    def _count(self, shown: _Shown, times: int) -> _Shown:
        """Count a list, or take it back where `times` is -1."""
        _, _, user, slots = shown
        for item, taken in slots:
            self._shown[item] += times
            self._taken[item] += times * taken
            self._shown_to[user, item] += times
        return shown


def histories_before(
    users_E: Shaped[np.ndarray, "E"],
    items_E: Shaped[np.ndarray, "E"],
    times_E: Int64[np.ndarray, "E"],
    users_L: Shaped[np.ndarray, "L"],
    times_L: Int64[np.ndarray, "L"],
) -> Histories:
    """Find for each list what its user did before its second.

    Args:
        users_E: numbers of users from 0, of events in any order; those of one user and second keep their order.
        items_E: catalogue rows.
        times_E: seconds since 1970.
        users_L: whose list it is; numbers as in `users_E`.
        times_L: when it was shown.
    """
    order = np.lexsort((times_E, users_E))
    moments = np.unique(np.concatenate([times_E, times_L]))
    keys_E = _keys(users_E[order], times_E[order], moments)
    starts_L = np.searchsorted(keys_E, users_L.astype(np.int64) * (len(moments) + 1), side="left")
    ends_L = np.searchsorted(keys_E, _keys(users_L, times_L, moments), side="left")
    return Histories(items_E[order].astype(np.int32), times_E[order], starts_L, ends_L)


def _total_before(
    owners_R: Shaped[np.ndarray, "R"],
    times_R: Int64[np.ndarray, "R"],
    amounts_R: Float64[np.ndarray, "R"],
    owners_Q: Shaped[np.ndarray, "Q"],
    times_Q: Int64[np.ndarray, "Q"],
) -> Float64[np.ndarray, "Q"]:
    """Sum for each query its owner's amounts of records strictly before its time."""
    moments = np.unique(np.concatenate([times_R, times_Q]))
    keys_R = _keys(owners_R, times_R, moments)
    order = np.argsort(keys_R, kind="stable")
    running = np.concatenate([[0.0], np.cumsum(amounts_R[order])])
    first = np.searchsorted(keys_R[order], owners_Q.astype(np.int64) * (len(moments) + 1))
    until = np.searchsorted(keys_R[order], _keys(owners_Q, times_Q, moments))
    return np.asarray(running[until] - running[first])


def _keys(
    owners: Shaped[np.ndarray, "_"], times: Int64[np.ndarray, "_"], moments: Int64[np.ndarray, "_"]
) -> Int64[np.ndarray, "_"]:
    """Make one number that sorts by owner, then time."""
    return np.asarray(owners.astype(np.int64) * (len(moments) + 1) + np.searchsorted(moments, times))


def _running_columns(
    items_LN: Int32[np.ndarray, "L N"],
    histories: Histories,
    shown_R: Float64[np.ndarray, "R"],
    taken_R: Float64[np.ndarray, "R"],
    shown_to_user_R: Float64[np.ndarray, "R"],
) -> Float32[np.ndarray, "L N V"]:
    """Turn what was counted before the second of each list into the columns; see `with_running_features`."""
    mask_LN = items_LN >= 0
    columns_LNV = np.zeros((*items_LN.shape, len(RUNNING_NAMES)), dtype=np.float32)
    columns_LNV[mask_LN, 0] = np.log1p(shown_R)
    columns_LNV[mask_LN, 1] = np.log1p(taken_R)
    columns_LNV[mask_LN, 2] = (taken_R + 1) / (shown_R + 20)
    columns_LNV[mask_LN, 3] = np.log1p(shown_to_user_R)
    for start in range(0, len(items_LN), _LISTS_AT_ONCE):
        part = slice(start, start + _LISTS_AT_ONCE)
        columns_LNV[part, :, 4:6] = _seen_among(items_LN[part], histories[part].newest(NEWEST))
    columns_LNV[:, :, 6] = _past_last_seen(columns_LNV[:, :, 5]) * mask_LN
    return columns_LNV


def _past_last_seen(lately_LN: Float32[np.ndarray, "L N"]) -> Float32[np.ndarray, "L N"]:
    """Return the signed distance to the candidate that was seen last."""
    places_N = np.arange(lately_LN.shape[1], dtype=np.float32)
    distance_LN = places_N - lately_LN.argmax(axis=1, keepdims=True)
    return np.where(
        lately_LN.any(axis=1, keepdims=True), np.sign(distance_LN) * np.log1p(np.abs(distance_LN)), 0
    ).astype(np.float32)


def _seen_among(
    items_LN: Int32[np.ndarray, "L N"], history_LH: Int32[np.ndarray, "L H"]
) -> Float32[np.ndarray, "L N 2"]:
    """Count how often and how lately each candidate stands in its list's history."""
    num_items = 1 + int(max(items_LN.max(initial=0), history_LH.max(initial=0)))
    lists_R, places_R = np.nonzero(history_LH >= 0)
    age_R = (history_LH >= 0).sum(axis=1)[lists_R] - 1 - places_R
    keys_R = lists_R * num_items + history_LH[lists_R, places_R]
    order = np.lexsort((age_R, keys_R))
    keys_P, first_P, counts_P = np.unique(keys_R[order], return_index=True, return_counts=True)
    seen_LN2 = np.zeros((*items_LN.shape, 2), dtype=np.float32)
    if len(keys_P):
        keys_LN = np.arange(len(items_LN))[:, None] * num_items + items_LN
        found_LN = np.minimum(np.searchsorted(keys_P, keys_LN), len(keys_P) - 1)
        there_LN = (keys_P[found_LN] == keys_LN) & (items_LN >= 0)
        seen_LN2[:, :, 0] = np.where(there_LN, np.log1p(counts_P[found_LN]), 0)
        seen_LN2[:, :, 1] = np.where(there_LN, 1 / (1.0 + age_R[order][first_P[found_LN]]), 0)
    return seen_LN2
