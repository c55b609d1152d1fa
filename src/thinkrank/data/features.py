"""What can be said of a candidate from what happened before its list was shown.

Shape legend: L lists, N candidates, F numeric features, H items of a history, E events, Q queries, R records, P pairs
of a list and an item of its history.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64, Shaped

from thinkrank.data.histories import Histories
from thinkrank.data.impressions import ImpressionDataset

RUNNING_NAMES = (
    "shown_before",
    "taken_before",
    "rate_before",
    "shown_to_user",
    "seen_times",
    "seen_lately",
    "past_last_seen",
)
"""The columns that `with_running_features` adds, in this order."""
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
        signal: what counts as taken where it is above 0; None for the first signal.
        known_L: when the feedback on each list was complete, in seconds since 1970; None for when it was shown.

    Raises:
        ThinkrankError: if there is no such signal.
    """
    known_L = data.times_L if known_L is None else known_L
    taken_LN = data.feedback(signal) > 0
    lists_R, slots_R = np.nonzero(data.mask_LN)
    items_R, known_R, times_R = data.items_LN[lists_R, slots_R], known_L[lists_R], data.times_L[lists_R]
    taken_R = taken_LN[lists_R, slots_R].astype(np.float64)
    ones_R = np.ones_like(taken_R)
    pairs_R = data.users_L[lists_R].astype(np.int64) * len(data.catalogue) + items_R
    _, pairs_R = np.unique(pairs_R, return_inverse=True)
    shown_R = _total_before(items_R, known_R, ones_R, items_R, times_R)
    clicks_R = _total_before(items_R, known_R, taken_R, items_R, times_R)
    columns_LNF = np.zeros((*data.items_LN.shape, len(RUNNING_NAMES)), dtype=np.float32)
    columns_LNF[lists_R, slots_R, 0] = np.log1p(shown_R)
    columns_LNF[lists_R, slots_R, 1] = np.log1p(clicks_R)
    columns_LNF[lists_R, slots_R, 2] = (clicks_R + 1) / (shown_R + 20)
    columns_LNF[lists_R, slots_R, 3] = np.log1p(_total_before(pairs_R, known_R, ones_R, pairs_R, times_R))
    columns_LNF[:, :, 4:6] = _seen(data)
    columns_LNF[:, :, 6] = _past_last_seen(columns_LNF[:, :, 5]) * data.mask_LN
    return replace(
        data,
        numeric_LNF=np.concatenate([data.numeric_LNF, columns_LNF], axis=2),
        numeric_names=(*data.numeric_names, *RUNNING_NAMES),
    )


def histories_before(
    users_E: Shaped[np.ndarray, "E"],
    items_E: Shaped[np.ndarray, "E"],
    times_E: Int64[np.ndarray, "E"],
    users_L: Shaped[np.ndarray, "L"],
    times_L: Int64[np.ndarray, "L"],
) -> Histories:
    """For each list, what its user did before its second.

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
    """For each query, the sum of its owner's amounts of records strictly before its time."""
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
    """One number that sorts by owner, then time."""
    return np.asarray(owners.astype(np.int64) * (len(moments) + 1) + np.searchsorted(moments, times))


def _seen(data: ImpressionDataset) -> Float32[np.ndarray, "L N 2"]:
    """How often and how lately each candidate stands in its list's history."""
    blocks = [np.zeros((0, data.items_LN.shape[1], 2), dtype=np.float32)]
    for start in range(0, len(data), _LISTS_AT_ONCE):
        part = slice(start, start + _LISTS_AT_ONCE)
        blocks.append(_seen_among(data.items_LN[part], data.histories[part].newest(NEWEST), len(data.catalogue)))
    return np.concatenate(blocks)


def _past_last_seen(lately_LN: Float32[np.ndarray, "L N"]) -> Float32[np.ndarray, "L N"]:
    """The signed distance to the candidate that was seen last."""
    places_N = np.arange(lately_LN.shape[1], dtype=np.float32)
    distance_LN = places_N - lately_LN.argmax(axis=1, keepdims=True)
    return np.where(
        lately_LN.any(axis=1, keepdims=True), np.sign(distance_LN) * np.log1p(np.abs(distance_LN)), 0
    ).astype(np.float32)


def _seen_among(
    items_LN: Int32[np.ndarray, "L N"], history_LH: Int32[np.ndarray, "L H"], num_items: int
) -> Float32[np.ndarray, "L N 2"]:
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
