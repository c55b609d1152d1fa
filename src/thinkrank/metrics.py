"""Ranking metrics, batched over users, on relevance in ranked order.

Shape legend: B users, N length of the ranked lists, M length of the ideal lists, E items of all lists, G groups of
them, F numbers of relevant items found. Of means: S samples, C clusters of them, M columns.

Every metric reads one row per user: the relevance of the item at place 1, 2, ... N. Zero is not relevant; anything
above is, and only `ndcg` looks at how much. A user with nothing relevant scores 0. The values are those of trec_eval
(`ir-measures`: Success, Recall, RR, AP, nDCG), with which the tests compare them.

A list that was cut before N no longer knows how many relevant items exist. `recall`, `average_precision` and `ndcg`
then need `num_relevant_B`; with one target per user (next-item prediction) nothing is lost and it may be left out.

Where scores tie, the order of a list is chance. Told by `tied_BN` which items have the score of the one before them,
every metric is its exact expected value over all orders of what ties, each as likely as the others. A list must then
not be cut inside such a group.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Integer, Shaped

Gain = Literal["linear", "exponential"]
"""What a relevance grade r is worth to `ndcg`: r itself, or 2^r - 1."""

LIST_GAIN: Gain = "exponential"
"""The gain by which displayed lists are judged, in tables as in the validations that choose weights."""

Divisor = Literal["relevant", "found"]
"""What `average_precision` divides by: the relevant items that exist, or those found in the first k places."""


def hit(
    relevance_BN: Shaped[np.ndarray, "B N"],
    k: int | None = None,
    num_relevant_B: Integer[np.ndarray, "B"] | None = None,
    *,
    tied_BN: Bool[np.ndarray, "B N"] | None = None,
) -> Float64[np.ndarray, "B"]:
    """Score 1 where at least one relevant item stands in the first k places, else 0.

    Args:
        relevance_BN: relevance in ranked order; above 0 is relevant.
        k: the cut-off; None for the whole list; may exceed N.
        num_relevant_B: not needed, accepted so that all metrics are called alike.
        tied_BN: which items have the score of the one before; None if the order is no chance.

    Raises:
        ValueError: if k is below 1, or a relevance is negative or NaN.
    """
    relevant_BN = _relevant(relevance_BN, k)
    if tied_BN is None:
        return np.asarray(relevant_BN.any(axis=1), np.float64)
    groups = _groups(relevance_BN, tied_BN, k)
    return np.asarray(1 - np.exp(_row_sums(groups, _log_none(groups))))


def recall(
    relevance_BN: Shaped[np.ndarray, "B N"],
    k: int | None = None,
    num_relevant_B: Integer[np.ndarray, "B"] | None = None,
    *,
    tied_BN: Bool[np.ndarray, "B N"] | None = None,
) -> Float64[np.ndarray, "B"]:
    """Compute the share of a user's relevant items that stand in the first k places.

    Args:
        relevance_BN: relevance in ranked order; above 0 is relevant.
        k: the cut-off; None for the whole list; may exceed N.
        num_relevant_B: relevant items that exist per user; None if the list holds them all.
        tied_BN: as for `hit`.

    Raises:
        ValueError: if k is below 1, a relevance is negative or NaN, or fewer items are said to exist than the list
            shows.
    """
    found_B = np.count_nonzero(_relevant(relevance_BN, k), axis=1)
    if tied_BN is not None:
        groups = _groups(relevance_BN, tied_BN, k)
        found_B = _row_sums(groups, groups.relevant_G * groups.inside_G / groups.size_G)
    return _divide(found_B, _num_relevant(relevance_BN, num_relevant_B))


def reciprocal_rank(
    relevance_BN: Shaped[np.ndarray, "B N"],
    k: int | None = None,
    num_relevant_B: Integer[np.ndarray, "B"] | None = None,
    *,
    tied_BN: Bool[np.ndarray, "B N"] | None = None,
) -> Float64[np.ndarray, "B"]:
    """Compute 1 / place of the first relevant item, 0 if none stands in the first k places.

    Args:
        relevance_BN: relevance in ranked order; above 0 is relevant.
        k: the cut-off; None for the whole list; may exceed N.
        num_relevant_B: not needed, accepted so that all metrics are called alike.
        tied_BN: which items have the score of the one before; None if the order is no chance.

    Raises:
        ValueError: if k is below 1, or a relevance is negative or NaN.
    """
    relevant_BN = _relevant(relevance_BN, k)
    if relevant_BN.shape[1] == 0:
        return np.zeros(len(relevant_BN))
    if tied_BN is not None:
        return _expected_reciprocal_rank(_groups(relevance_BN, tied_BN, k))
    return np.where(relevant_BN.any(axis=1), 1 / (1.0 + relevant_BN.argmax(axis=1)), 0.0)


def average_precision(
    relevance_BN: Shaped[np.ndarray, "B N"],
    k: int | None = None,
    num_relevant_B: Integer[np.ndarray, "B"] | None = None,
    *,
    divisor: Divisor = "relevant",
    tied_BN: Bool[np.ndarray, "B N"] | None = None,
) -> Float64[np.ndarray, "B"]:
    """Sum the precisions at each relevant item of the first k places, over a number of relevant items.

    Args:
        relevance_BN: relevance in ranked order; above 0 is relevant.
        k: the cut-off; None for the whole list; may exceed N.
        num_relevant_B: relevant items that exist per user; None if the list holds them all.
        divisor: "relevant" divides by the number of relevant items R, as trec_eval does, and not by min(R, k): with
            R > k the best value is below 1. "found" divides by those in the first k places, as LibRerank and the code
            around EGLR do: whoever finds one of ten items at the first place has 1. Without a cut-off the two agree.
        tied_BN: as for `hit`.

    Raises:
        ValueError: if k is below 1, a relevance is negative or NaN, or fewer items are said to exist than the list
            shows.
    """
    relevant_BN = _relevant(relevance_BN, k)
    if tied_BN is not None:
        groups = _groups(relevance_BN, tied_BN, k)
        if divisor == "found":
            return _expected_found_precision(groups)
        total_B = _row_sums(groups, _precision_sums(groups, groups.relevant_G, groups.size_G))
        return _divide(total_B, _num_relevant(relevance_BN, num_relevant_B))
    precision_BN = relevant_BN.cumsum(axis=1) / np.arange(1, relevant_BN.shape[1] + 1)
    exist_B = _num_relevant(relevance_BN, num_relevant_B)
    over_B = exist_B if divisor == "relevant" else np.count_nonzero(relevant_BN, axis=1)
    return _divide((precision_BN * relevant_BN).sum(axis=1), over_B)


def ndcg(
    relevance_BN: Shaped[np.ndarray, "B N"],
    k: int | None = None,
    num_relevant_B: Integer[np.ndarray, "B"] | None = None,
    *,
    gain: Gain = "linear",
    ideal_BM: Shaped[np.ndarray, "B M"] | None = None,
    tied_BN: Bool[np.ndarray, "B N"] | None = None,
) -> Float64[np.ndarray, "B"]:
    """Compute the discounted gain of the first k places over that of the best possible order.

    DCG@k = sum over places p <= k of gain(r_p) / log2(p + 1); nDCG@k = DCG@k / DCG@k of the relevances sorted
    downwards.

    Args:
        relevance_BN: grades in ranked order; above 0 is relevant.
        k: the cut-off of both the list and the ideal list; None for the whole list; may exceed N.
        num_relevant_B: for a cut list of yes/no relevance, how many relevant items exist per user.
        gain: "linear", the grade itself, is the default of trec_eval and ir-measures; "exponential", 2^grade - 1, is
            that of Burges et al. 2005. The two agree where relevance is 0 or 1.
        ideal_BM: for a cut list of graded relevance, the grades that exist per user in any order, filled up with 0.
        tied_BN: as for `hit`.

    Raises:
        ValueError: if k is below 1, a relevance is negative or NaN, `num_relevant_B` comes with grades other than 0 and
            1 or together with `ideal_BM`, or fewer items are said to exist than the list shows.

    Source: Järvelin & Kekäläinen 2002.
    """
    _check(relevance_BN, k)
    if num_relevant_B is not None:
        if ideal_BM is not None:
            raise ValueError("give num_relevant_B or ideal_BM, not both")
        if (np.asarray(relevance_BN) > 1).any():
            raise ValueError("num_relevant_B says nothing of grades above 1; give the ideal grades as ideal_BM")
        num_relevant_B = _num_relevant(relevance_BN, num_relevant_B)
        # One ideal list serves all users: only its first num_relevant places count.
        best_B = np.cumsum(_discounts(max(1, int(num_relevant_B.max(initial=0)))))
        reached_B = num_relevant_B if k is None else np.minimum(num_relevant_B, k)
        return _divide(_dcg(relevance_BN, k, gain, tied_BN), np.where(reached_B > 0, best_B[reached_B - 1], 0.0))
    grades_BM = np.asarray(relevance_BN if ideal_BM is None else ideal_BM)
    _check(grades_BM, k)
    best_B = _dcg(-np.sort(-grades_BM.astype(np.float64), axis=1), k, gain)
    return _divide(_dcg(relevance_BN, k, gain, tied_BN), best_B)


def auc(
    scores_BN: Shaped[np.ndarray, "B N"],
    relevance_BN: Shaped[np.ndarray, "B N"],
    mask_BN: Bool[np.ndarray, "B N"] | None = None,
) -> Float64[np.ndarray, "B"]:
    """Compute the share of pairs of a relevant and another item that the scores order rightly; ties count half.

    AUC = (1 / P Q) Σ_relevant i Σ_other j ([s_i > s_j] + [s_i = s_j] / 2), with P relevant items and Q others.

    Args:
        scores_BN: higher is better, any unit; in any order.
        relevance_BN: of the items in the same order; above 0 is relevant.
        mask_BN: False for padding; None if there is none.

    Returns:
        NaN where every item is relevant or none is: there is no pair.

    Raises:
        ValueError: if a relevance is negative or NaN, or a score NaN.
    """
    _check(relevance_BN, None)
    mask_BN = np.ones(relevance_BN.shape, dtype=bool) if mask_BN is None else mask_BN
    rows_E, columns_E = np.nonzero(mask_BN)
    scores_E = scores_BN[rows_E, columns_E]
    if np.isnan(scores_E).any():
        raise ValueError("scores hold NaN, so they have no order")
    order_E = np.lexsort((scores_E, rows_E))
    rows_E, scores_E = rows_E[order_E], scores_E[order_E]
    relevant_E = relevance_BN[rows_E, columns_E[order_E]] > 0
    num_rows = len(relevance_BN)
    relevant_B = np.bincount(rows_E, relevant_E, num_rows)
    others_B = np.bincount(rows_E, ~relevant_E, num_rows)
    # A group is what has one score in one row; counts of others before it and within it are all that is needed.
    starts_E = np.append(True, (np.diff(rows_E) != 0) | (scores_E[1:] != scores_E[:-1]))[: len(rows_E)]
    group_E = np.cumsum(starts_E) - 1
    others_G = np.bincount(group_E, ~relevant_E)
    relevant_G = np.bincount(group_E, relevant_E)
    rows_G = rows_E[starts_E]
    below_G = np.cumsum(others_G) - others_G - (np.cumsum(others_B) - others_B)[rows_G]
    right_B = np.bincount(rows_G, relevant_G * (below_G + others_G / 2), num_rows)
    pairs_B = relevant_B * others_B
    return np.asarray(np.divide(right_B, pairs_B, out=np.full(num_rows, np.nan), where=pairs_B > 0))


def relevance_from_ranks(ranks_B: Integer[np.ndarray, "B"], width: int) -> Bool[np.ndarray, "B {width}"]:
    """Make the relevance lists of users who have one relevant item each, from the place where it stands.

    Args:
        ranks_B: 1-based places; one beyond `width` gives a row without a relevant item.
        width: length of the lists, usually the largest cut-off.

    Raises:
        ValueError: if a rank or the width is below 1.
    """
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    if (ranks_B < 1).any():
        raise ValueError(f"ranks are 1-based, got {ranks_B.min()}")
    return np.asarray(ranks_B[:, None] == np.arange(1, width + 1))


def ties_from_ranks(
    ranks_B: Integer[np.ndarray, "B"], ties_B: Integer[np.ndarray, "B"], width: int
) -> Bool[np.ndarray, "B {width}"]:
    """Mark what ties in the lists of `relevance_from_ranks`.

    Args:
        ranks_B: 1-based place of the relevant item behind all that have its score.
        ties_B: how many others have.
        width: length of the lists, at least the largest rank.
    """
    places_N = np.arange(1, width + 1)
    return np.asarray((places_N > (ranks_B - ties_B)[:, None]) & (places_N <= ranks_B[:, None]))


def mean_errors(
    values_SM: Float64[np.ndarray, "S M"], clusters_S: Shaped[np.ndarray, "S"] | None
) -> tuple[Float64[np.ndarray, "M"], int]:
    """Compute the standard error of every column's mean, users as clusters, and count the users, two at least."""
    sums_CM, sizes_C = cluster_sums(values_SM, clusters_S)
    num_clusters = len(sizes_C)
    parts_CM = (sums_CM - sizes_C[:, None] * values_SM.mean(axis=0)) / len(values_SM)
    return np.sqrt((parts_CM**2).sum(axis=0) * num_clusters / max(1, num_clusters - 1)), num_clusters


def cluster_sums(
    values_SM: Float64[np.ndarray, "S M"], clusters_S: Shaped[np.ndarray, "S"] | None
) -> tuple[Float64[np.ndarray, "C M"], Float64[np.ndarray, "C"]]:
    """Sum the values of each cluster, and count its samples."""
    if clusters_S is None:
        return values_SM, np.ones(len(values_SM))
    _, cluster_S = np.unique(clusters_S, return_inverse=True)
    sizes_C = np.bincount(cluster_S).astype(np.float64)
    return np.stack([np.bincount(cluster_S, weights=column_S) for column_S in values_SM.T], axis=1), sizes_C


def _check(relevance_BN: Shaped[np.ndarray, "B N"], k: int | None) -> None:
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    relevance_BN = np.asarray(relevance_BN)
    if relevance_BN.dtype != np.bool_ and not (relevance_BN >= 0).all():
        raise ValueError("relevance must be 0 or above, and not NaN")


def _relevant(relevance_BN: Shaped[np.ndarray, "B N"], k: int | None) -> Bool[np.ndarray, "B n"]:
    """Mark which of the first k places hold a relevant item."""
    _check(relevance_BN, k)
    return np.asarray(np.asarray(relevance_BN)[:, :k] > 0)


def _num_relevant(
    relevance_BN: Shaped[np.ndarray, "B N"], num_relevant_B: Integer[np.ndarray, "B"] | None
) -> Integer[np.ndarray, "B"]:
    shown_B = np.asarray(np.count_nonzero(np.asarray(relevance_BN) > 0, axis=1))
    if num_relevant_B is None:
        return shown_B
    num_relevant_B = np.asarray(num_relevant_B)
    if (num_relevant_B < shown_B).any():
        raise ValueError("num_relevant_B is smaller than the number of relevant items in the list")
    return num_relevant_B


def _dcg(
    relevance_BN: Shaped[np.ndarray, "B N"],
    k: int | None,
    gain: Gain,
    tied_BN: Bool[np.ndarray, "B N"] | None = None,
) -> Float64[np.ndarray, "B"]:
    gains_BN = np.asarray(relevance_BN)[:, : k if tied_BN is None else None].astype(np.float64)
    if gain == "exponential":
        gains_BN = np.exp2(gains_BN) - 1
    if tied_BN is not None:  # every place of a group is worth the group's mean gain
        group_BN = _group_numbers(gains_BN, tied_BN)
        means_G = np.bincount(group_BN.ravel(), gains_BN.ravel()) / np.bincount(group_BN.ravel())
        gains_BN = means_G[group_BN][:, :k]
    return np.asarray(gains_BN @ _discounts(gains_BN.shape[1]))


def _discounts(width: int) -> Float64[np.ndarray, "width"]:
    return np.asarray(1 / np.log2(np.arange(2, width + 2)))


def _divide(part_B: Shaped[np.ndarray, "B"], whole_B: Shaped[np.ndarray, "B"]) -> Float64[np.ndarray, "B"]:
    """Divide part by whole, 0 where the whole is 0."""
    return np.asarray(np.divide(part_B, whole_B, out=np.zeros(len(part_B)), where=whole_B > 0))


class _Groups(NamedTuple):
    """Groups of tied items, all rows one after the other.

    Attributes:
        row_G: whose list.
        start_G: places before it.
        size_G: items in it.
        relevant_G: of them relevant.
        before_G: relevant items before it.
        inside_G: of its places those among the first k.
        num_rows: B.
    """

    row_G: Integer[np.ndarray, "G"]
    start_G: Integer[np.ndarray, "G"]
    size_G: Integer[np.ndarray, "G"]
    relevant_G: Integer[np.ndarray, "G"]
    before_G: Integer[np.ndarray, "G"]
    inside_G: Integer[np.ndarray, "G"]
    num_rows: int


_PER_GROUP = _Groups._fields[:-1]


def _group_numbers(values_BN: np.ndarray, tied_BN: Bool[np.ndarray, "B N"]) -> Integer[np.ndarray, "B N"]:
    """Give every item the number of its group, counted over all rows."""
    if tied_BN.shape != values_BN.shape:
        raise ValueError(f"ties have shape {tied_BN.shape}, not {values_BN.shape}")
    begins_BN = ~tied_BN
    begins_BN[:, :1] = True
    return np.asarray(np.cumsum(begins_BN).reshape(begins_BN.shape) - 1)


def _groups(relevance_BN: Shaped[np.ndarray, "B N"], tied_BN: Bool[np.ndarray, "B N"], k: int | None) -> _Groups:
    """Find the groups of tied items; each list is a row, and an item that ties with none a group."""
    relevant_BN = _relevant(relevance_BN, None)
    group_BN = _group_numbers(relevant_BN, tied_BN)
    num_rows, width = group_BN.shape
    size_G = np.bincount(group_BN.ravel())
    relevant_G = np.bincount(group_BN.ravel(), relevant_BN.ravel()).astype(np.int64)
    first_G = np.cumsum(size_G) - size_G
    row_G, start_G = np.divmod(first_G, max(1, width))
    of_rows_B = relevant_BN.sum(axis=1)
    before_G = np.cumsum(relevant_G) - relevant_G - (np.cumsum(of_rows_B) - of_rows_B)[row_G]
    inside_G = np.clip((width if k is None else k) - start_G, 0, size_G)
    return _Groups(row_G, start_G, size_G, relevant_G, before_G, inside_G, num_rows)


def _row_sums(groups: _Groups, values_G: Shaped[np.ndarray, "G"]) -> Float64[np.ndarray, "B"]:
    return _sums(groups.row_G, values_G, groups.num_rows)


def _log_none(groups: _Groups) -> Float64[np.ndarray, "G"]:
    """Compute the log of the chance that none of a group's relevant items stands in the first k places.

    With n items, r of them relevant, and m places: C(n - r, m) / C(n, m), -inf if there is no room for the others.
    """
    n_G, r_G, m_G = groups.size_G, groups.relevant_G, groups.inside_G
    room_G = n_G - r_G - m_G
    ways_G = _log_choose(n_G - r_G, np.minimum(m_G, n_G - r_G)) - _log_choose(n_G, m_G)
    return np.where(r_G == 0, 0.0, np.where(room_G >= 0, ways_G, -np.inf))


def _places(
    groups: _Groups, held_G: Bool[np.ndarray, "G"]
) -> tuple[Integer[np.ndarray, "E"], Integer[np.ndarray, "E"]]:
    """List the places among the first k of some groups: whose each is, and the how manieth in its group, from 1."""
    of_E = np.repeat(np.flatnonzero(held_G), groups.inside_G[held_G])
    ends = np.cumsum(groups.inside_G[held_G])
    begins_E = np.repeat(ends - groups.inside_G[held_G], groups.inside_G[held_G])
    return of_E, np.arange(len(of_E)) - begins_E + 1


def _expected_reciprocal_rank(groups: _Groups) -> Float64[np.ndarray, "B"]:
    """Average over the places where the first relevant item may stand: all of the first group that holds one.

    It stands at the j-th place of the n of its group, of which r are relevant, with the chance
    C(n - j, r - 1) / C(n, r).
    """
    of_E, j_E = _places(groups, (groups.relevant_G > 0) & (groups.before_G == 0))
    n_E, r_E = groups.size_G[of_E], groups.relevant_G[of_E]
    possible_E = j_E <= n_E - r_E + 1
    of_E, j_E, n_E, r_E = of_E[possible_E], j_E[possible_E], n_E[possible_E], r_E[possible_E]
    chance_E = np.exp(_log_choose(n_E - j_E, r_E - 1) - _log_choose(n_E, r_E))
    return _sums(groups.row_G[of_E], chance_E / (groups.start_G[of_E] + j_E), groups.num_rows)


def _precision_sums(
    groups: _Groups, relevant_G: Integer[np.ndarray, "G"], among_G: Integer[np.ndarray, "G"]
) -> Float64[np.ndarray, "G"]:
    """Sum the expected precisions at the relevant items of each group's first `inside` places.

    `relevant_G` items are spread evenly over `among_G` places: that at place i of n is relevant with the chance r / n,
    and then (i - 1)(r - 1) / (n - 1) of those before it are.
    """
    of_E, i_E = _places(groups, relevant_G > 0)
    n_E, r_E = among_G[of_E], relevant_G[of_E]
    before_E = groups.before_G[of_E] + 1 + (i_E - 1) * (r_E - 1) / np.maximum(1, n_E - 1)
    return _sums(of_E, r_E / n_E * before_E / (groups.start_G[of_E] + i_E), len(groups.size_G))


def _expected_found_precision(groups: _Groups) -> Float64[np.ndarray, "B"]:
    """Average precision over those found: how many of a divided group are found is chance, hypergeometrically so."""
    whole_G = groups.inside_G == groups.size_G
    sums_G = _precision_sums(groups, groups.relevant_G, groups.size_G)
    total_B, found_B = _row_sums(groups, sums_G * whole_G), _row_sums(groups, groups.relevant_G * whole_G)
    values_B = _divide(total_B, found_B)
    for group in np.flatnonzero(~whole_G & (groups.inside_G > 0) & (groups.relevant_G > 0)):
        n, r, m, row = (int(x[group]) for x in (groups.size_G, groups.relevant_G, groups.inside_G, groups.row_G))
        found_F = np.arange(max(0, m - (n - r)), min(r, m) + 1)
        n_F, r_F, m_F = (np.full(len(found_F), x) for x in (n, r, m))
        chance_F = np.exp(_log_choose(r_F, found_F) + _log_choose(n_F - r_F, m_F - found_F) - _log_choose(n_F, m_F))
        same: dict[str, Any] = {name: np.repeat(getattr(groups, name)[group], len(found_F)) for name in _PER_GROUP}
        alike = groups._replace(**same)
        sums_F = total_B[row] + _precision_sums(alike, found_F, m_F)
        values_B[row] = (chance_F * sums_F / np.maximum(1, found_B[row] + found_F)).sum()
    return values_B


def _sums(of_E: Integer[np.ndarray, "E"], values_E: Shaped[np.ndarray, "E"], length: int) -> Float64[np.ndarray, "X"]:
    """Add up what belongs to each of `length` things; counts where there is nothing are 0, in double precision."""
    return np.asarray(np.bincount(of_E, values_E, length), np.float64)


def _log_choose(n: Shaped[np.ndarray, "E"], k: Shaped[np.ndarray, "E"]) -> Float64[np.ndarray, "E"]:
    """Compute the log of n over k, 0 <= k <= n."""
    log_factorials = np.append(0.0, np.cumsum(np.log(np.arange(1, np.max(n, initial=0) + 1))))
    return np.asarray(log_factorials[n] - log_factorials[k] - log_factorials[n - k])
