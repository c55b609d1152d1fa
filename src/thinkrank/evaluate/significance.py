"""How sure a mean over users is, and whether two systems really differ.

Shape legend: S samples, C clusters, M metrics, R resamples.

Samples of one user are not independent: who is easy to predict once is easy again, and a split in time order holds many
samples of the same user. Intervals and tests here therefore draw or flip whole *clusters* (users). With one sample per
user the two are the same; ignoring clusters where there are some gives intervals which are too narrow and p-values too
small.

A test says nothing of other trainings of the same systems; that is what `thinkrank.evaluate.trainings` is for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

from thinkrank.evaluate._student import visible_difference
from thinkrank.metrics import cluster_sums, mean_errors

CONFIDENCE = 0.95
"""Probability mass of an interval unless another is asked for."""

NUM_RESAMPLES = 2000
"""Means that an interval is made of unless another number is asked for."""

BLOCK_CELLS = 4_000_000
"""Resamples are drawn in blocks of about this many numbers, so memory stays near 32 MB whatever the number of users."""

MIN_CLUSTERS = 6
"""With fewer users no p-value is told: a sign-flip test of n users has none below 2^(1 - n), .0625 with five."""

ENUMERATE_UP_TO = 14
"""With at most this many clusters that differ, the paired test looks at all 2^n sign patterns: its p-value is then
exact."""


@dataclass(frozen=True)
class Interval:
    """Hold a mean and where it would plausibly lie, had other users been asked. `low <= high`, in the metric's unit."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """Hold how a system compares with a reference on the same samples.

    Attributes:
        difference: mean of the system minus mean of the reference, with its bootstrap interval.
        p_value: two-sided; None with fewer than `MIN_CLUSTERS` clusters.
        visible: the smallest true difference that a test at the level asked for sees with 80 % power; None likewise.
        num_clusters: users, or samples if no clusters were given.
    """

    difference: Interval
    p_value: float | None
    visible: float | None
    num_clusters: int


def bootstrap_intervals(
    values_SM: Float64[np.ndarray, "S M"],
    clusters_S: Shaped[np.ndarray, "S"] | None = None,
    *,
    confidence: float = CONFIDENCE,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[Interval]:
    """Compute the percentile bootstrap interval of the mean of every column.

    Each resample draws as many clusters as there are, with replacement, and takes the mean over the samples of those
    drawn. The columns share their resamples, so doing all metrics in one call costs little more than one.

    Args:
        values_SM: one row per sample, one column per metric.
        clusters_S: whose sample each row is (any labels); None if every sample stands alone.
        confidence: probability mass between `low` and `high`.
        num_resamples: how many means are drawn.
        seed: of the draws; the same seed gives the same interval.

    Raises:
        ValueError: without samples, with a confidence outside (0, 1), or with fewer than 1 resample.

    Source: Efron & Tibshirani 1993, chapter 13; drawing clusters: Field & Welsh 2007.
    """
    if len(values_SM) == 0:
        raise ValueError("no samples, so there is no mean to give an interval for")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}")
    sums_CM, sizes_C = cluster_sums(values_SM, clusters_S)
    rng = np.random.default_rng(seed)
    means_RM = np.concatenate(
        [
            (draws_RC @ sums_CM) / (draws_RC @ sizes_C)[:, None]
            for draws_RC in cluster_draws(len(sizes_C), num_resamples, rng)
        ]
    )
    tail = (1 - confidence) / 2
    low_M, high_M = np.quantile(means_RM, [tail, 1 - tail], axis=0)
    return [
        Interval(float(value), float(low), float(high))
        for value, low, high in zip(values_SM.mean(axis=0), low_M, high_M, strict=True)
    ]


def paired_test(
    system_S: Float64[np.ndarray, "S"],
    reference_S: Float64[np.ndarray, "S"],
    clusters_S: Shaped[np.ndarray, "S"] | None = None,
    *,
    confidence: float = CONFIDENCE,
    num_resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.05,
) -> PairedTest:
    """Test whether two systems differ on the same samples: sign-flip permutation test, and interval of the difference.

    If they do not, each cluster's difference is as likely to have the other sign. p = share of the sign patterns whose
    total is at least as far from 0 as the one observed; over all patterns where they are few (see `ENUMERATE_UP_TO`),
    else over `num_resamples` random ones and the observed one, which keeps the test valid (Phipson & Smyth 2010).

    Clusters are as for `bootstrap_intervals`; the seed is that of the sign patterns and of the bootstrap; the level is
    that at which the smallest visible difference is told.

    Raises:
        ValueError: as `bootstrap_intervals`.
    """
    (test,) = paired_tests(
        (system_S - reference_S)[:, None],
        clusters_S,
        confidence=confidence,
        num_resamples=num_resamples,
        seed=seed,
        level=level,
    )
    return test


def paired_tests(
    differences_SM: Float64[np.ndarray, "S M"],
    clusters_S: Shaped[np.ndarray, "S"] | None = None,
    *,
    confidence: float = CONFIDENCE,
    num_resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.05,
) -> list[PairedTest]:
    """Test several differences on the same samples at once, as `paired_test` does one; they share all draws.

    Raises:
        ValueError: as `bootstrap_intervals`.
    """
    intervals = bootstrap_intervals(differences_SM, clusters_S, confidence=confidence, seed=seed)
    sums_CM, sizes_C = cluster_sums(differences_SM, clusters_S)
    num_clusters = len(sizes_C)
    if num_clusters < MIN_CLUSTERS:
        return [PairedTest(interval, None, None, num_clusters) for interval in intervals]
    errors_M, _ = mean_errors(differences_SM, clusters_S)
    p_values = _sign_flip_p_values(sums_CM, num_resamples, seed)
    return [
        PairedTest(interval, p_value, visible_difference(error, num_clusters - 1.0, level=level), num_clusters)
        for interval, p_value, error in zip(intervals, p_values, errors_M.tolist(), strict=True)
    ]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p-values for their number, so that at .05 any false one among them is as rare as .05.

    The smallest of n is multiplied by n, the next by n - 1, ..., none comes below one before it, none above 1. What has
    no p-value is not counted.

    Source: Holm 1979.
    """
    found = sorted((p, at) for at, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, at) in enumerate(found):
        least = max(least, min(1.0, (len(found) - rank) * p))
        corrected[at] = least
    return corrected


def _sign_flip_p_values(sums_CM: Float64[np.ndarray, "C M"], num_resamples: int, seed: int) -> list[float]:
    found: dict[int, float] = {}
    for column in range(sums_CM.shape[1]):
        sums_C = sums_CM[:, column]
        sums_C = sums_C[sums_C != 0]  # flipping a zero changes nothing
        if len(sums_C) <= ENUMERATE_UP_TO:
            patterns_RC = (np.arange(2 ** len(sums_C))[:, None] >> np.arange(len(sums_C))) & 1
            found[column] = float((np.abs((2.0 * patterns_RC - 1) @ sums_C) >= _observed(sums_C[:, None])).mean())
    drawn = [column for column in range(sums_CM.shape[1]) if column not in found]
    if drawn:
        sums_CD = sums_CM[:, drawn]
        observed_D, extreme_D = _observed(sums_CD), np.zeros(len(drawn))
        rng = np.random.default_rng(seed)
        for size in _block_sizes(len(sums_CD), num_resamples):
            # sum of s_c x_c with signs s = 2b - 1, from bits b, is 2 (b . x) - sum of x.
            bits = np.unpackbits(np.frombuffer(rng.bytes(-(-size * len(sums_CD) // 8)), dtype=np.uint8))
            bits_RC = bits[: size * len(sums_CD)].reshape(size, -1).astype(np.float64)
            extreme_D += (np.abs(2 * (bits_RC @ sums_CD) - sums_CD.sum(axis=0)) >= observed_D).sum(axis=0)
        found |= dict(zip(drawn, ((extreme_D + 1) / (num_resamples + 1)).tolist(), strict=True))
    return [found[column] for column in range(sums_CM.shape[1])]


def _observed(sums_CM: Float64[np.ndarray, "C M"]) -> Float64[np.ndarray, "M"]:
    """Return the totals; patterns that tie with them in exact arithmetic tie, whatever the order of the sum."""
    return np.asarray(np.abs(sums_CM.sum(axis=0)) - 1e-12 * np.abs(sums_CM).sum(axis=0))


def cluster_draws(
    num_clusters: int, num_resamples: int, rng: np.random.Generator
) -> Iterator[Float64[np.ndarray, "R C"]]:
    """Draw how often each cluster stands in each resample, block by block."""
    for size in _block_sizes(num_clusters, num_resamples):
        drawn_RC = rng.integers(0, num_clusters, size=(size, num_clusters))
        flat = (drawn_RC + np.arange(size)[:, None] * num_clusters).ravel()
        yield np.bincount(flat, minlength=size * num_clusters).reshape(size, num_clusters).astype(np.float64)


def _block_sizes(width: int, total: int) -> Sequence[int]:
    block = max(1, min(total, BLOCK_CELLS // max(1, width)))
    return [min(block, total - start) for start in range(0, total, block)]
