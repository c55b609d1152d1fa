"""How sure a mean over users is, and whether two systems really differ.

Shape legend: S samples, C clusters, M metrics, R resamples.

Samples of one user are not independent: who is easy to predict once is easy again, and a split in time order holds many
samples of the same user. Intervals and tests here therefore draw or flip whole *clusters* (users). With one sample per
user the two are the same; ignoring clusters where there are some gives intervals which are too narrow and p-values too
small.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

CONFIDENCE = 0.95
"""Probability mass of an interval unless another is asked for."""

NUM_RESAMPLES = 2000
"""Means that an interval is made of unless another number is asked for."""

BLOCK_CELLS = 4_000_000
"""Resamples are drawn in blocks of about this many numbers, so memory stays near 32 MB whatever the number of users."""

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
        p_value: two-sided, of the sign-flip permutation test.
        num_clusters: users, or samples if no clusters were given.
    """

    difference: Interval
    p_value: float
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
    sums_CM, sizes_C = _cluster_sums(values_SM, clusters_S)
    rng = np.random.default_rng(seed)
    means_RM = np.concatenate(
        [(draws_RC @ sums_CM) / (draws_RC @ sizes_C)[:, None] for draws_RC in _draws(len(sizes_C), num_resamples, rng)]
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
) -> PairedTest:
    """Test whether two systems differ on the same samples: sign-flip permutation test, and interval of the difference.

    If they do not, each cluster's difference is as likely to have the other sign. p = share of the sign patterns whose
    total is at least as far from 0 as the one observed; over all patterns where they are few (see `ENUMERATE_UP_TO`),
    else over `num_resamples` random ones and the observed one, which keeps the test valid (Phipson & Smyth 2010).

    Clusters are as for `bootstrap_intervals`; the seed is that of the sign patterns and of the bootstrap.

    Raises:
        ValueError: as `bootstrap_intervals`.
    """
    differences_S1 = (system_S - reference_S)[:, None]
    (interval,) = bootstrap_intervals(differences_S1, clusters_S, confidence=confidence, seed=seed)
    sums_CM, sizes_C = _cluster_sums(differences_S1, clusters_S)
    return PairedTest(interval, _sign_flip_p_value(sums_CM[:, 0], num_resamples, seed), len(sizes_C))


def _sign_flip_p_value(sums_C: Float64[np.ndarray, "C"], num_resamples: int, seed: int) -> float:
    sums_C = sums_C[sums_C != 0]  # flipping a zero changes nothing
    # Patterns that tie with the observed one in exact arithmetic must tie here, whatever the order of the sum.
    observed = abs(sums_C.sum()) - 1e-12 * np.abs(sums_C).sum()
    if len(sums_C) <= ENUMERATE_UP_TO:
        patterns_RC = (np.arange(2 ** len(sums_C))[:, None] >> np.arange(len(sums_C))) & 1
        return float((np.abs((2.0 * patterns_RC - 1) @ sums_C) >= observed).mean())
    rng = np.random.default_rng(seed)
    extreme = 0
    for size in _block_sizes(len(sums_C), num_resamples):
        # sum of s_c x_c with signs s = 2b - 1, from bits b, is 2 (b . x) - sum of x.
        bits_RC = rng.integers(0, 2, size=(size, len(sums_C)), dtype=np.int8)
        extreme += int((np.abs(2 * (bits_RC @ sums_C) - sums_C.sum()) >= observed).sum())
    return (extreme + 1) / (num_resamples + 1)


def _cluster_sums(
    values_SM: Float64[np.ndarray, "S M"], clusters_S: Shaped[np.ndarray, "S"] | None
) -> tuple[Float64[np.ndarray, "C M"], Float64[np.ndarray, "C"]]:
    """Sum the values of each cluster, and count its samples."""
    if clusters_S is None:
        return values_SM, np.ones(len(values_SM))
    _, cluster_S = np.unique(clusters_S, return_inverse=True)
    sizes_C = np.bincount(cluster_S).astype(np.float64)
    return np.stack([np.bincount(cluster_S, weights=column_S) for column_S in values_SM.T], axis=1), sizes_C


def _draws(num_clusters: int, num_resamples: int, rng: np.random.Generator) -> Iterator[Float64[np.ndarray, "R C"]]:
    """Draw how often each cluster stands in each resample, block by block."""
    for size in _block_sizes(num_clusters, num_resamples):
        drawn_RC = rng.integers(0, num_clusters, size=(size, num_clusters))
        flat = (drawn_RC + np.arange(size)[:, None] * num_clusters).ravel()
        yield np.bincount(flat, minlength=size * num_clusters).reshape(size, num_clusters).astype(np.float64)


def _block_sizes(width: int, total: int) -> Sequence[int]:
    block = max(1, min(total, BLOCK_CELLS // max(1, width)))
    return [min(block, total - start) for start in range(0, total, block)]
