"""Whether two ways of training differ, when each was trained a few times and judged on the same users' samples.

Two things are chance: which trainings were made, and which users came. A test that averages the trainings and resamples
users takes these trainings for all that can come of the method; one over the trainings' means takes these users for all
there are. Both chances are counted here, crossed, as every training is judged on every user.

Shape legend: K trainings, S samples, C users, M metrics, R resamples, X = M K.
"""

import numpy as np
from jaxtyping import Float64, Shaped

from thinkrank.evaluate._student import quantile, visible_difference, within
from thinkrank.evaluate.significance import (
    CONFIDENCE,
    MIN_CLUSTERS,
    NUM_RESAMPLES,
    Interval,
    PairedTest,
    cluster_draws,
)
from thinkrank.metrics import cluster_sums

MIN_TRAININGS = 3
"""With fewer trainings of each arm their spread is not known well enough to test over them."""


def trainings_test(
    differences_KS: Float64[np.ndarray, "K S"],
    clusters_S: Shaped[np.ndarray, "S"] | None = None,
    *,
    confidence: float = CONFIDENCE,
    level: float = 0.05,
) -> PairedTest:
    """Test whether the mean difference of paired trainings is 0, both trainings and users being drawn.

    The variance of the mean is V_trainings + V_users - V_both: that of the trainings' means, that of the users' means
    (clustered), less the part of both, spread over trainings and users alike, that the two hold twice. t = mean /
    sqrt(V) has the degrees of freedom of Satterthwaite. As these are estimates, and too many where three trainings
    differ much, the mean must stand out over the trainings' means alone as well (paired t): the larger p-value and the
    wider interval count. `benchmarks/null_simulation.py` compares this with others: t over trainings alone rejects far
    too often where users matter, flipping users alone where trainings do, and the larger of these two where both do.

    Args:
        differences_KS: of each training and sample, system minus reference; training k of the one against k of the
            other.
        clusters_S: whose sample each is; None if every sample stands alone.
        confidence: probability mass of the interval, which is that of the same t.
        level: at which the smallest visible difference is told.

    Raises:
        ValueError: with fewer than `MIN_TRAININGS` trainings, or without samples.

    Source: the quasi-F of crossed random effects (Clark 1973; Satterthwaite 1946), for unequal numbers of samples per
    user; reconstructed.
    """
    num_trainings, num_samples = differences_KS.shape
    if num_trainings < MIN_TRAININGS or num_samples == 0:
        raise ValueError(
            f"needs at least {MIN_TRAININGS} trainings and a sample, got {num_trainings} and {num_samples}"
        )
    mean, errors, num_clusters = _spread(differences_KS, clusters_S)
    if num_clusters < MIN_CLUSTERS:
        return PairedTest(Interval(mean, mean, mean), None, None, num_clusters)
    if not errors:
        return PairedTest(Interval(mean, mean, mean), float(mean == 0), 0.0, num_clusters)
    half = max(quantile((1 + confidence) / 2, df) * error for error, df in errors)
    p_value = max(1 - within(abs(mean) / error, df) for error, df in errors)
    visible = max(visible_difference(error, df, level=level) for error, df in errors)
    return PairedTest(Interval(mean, mean - half, mean + half), p_value, visible, num_clusters)


def _spread(
    differences_KS: Float64[np.ndarray, "K S"], clusters_S: Shaped[np.ndarray, "S"] | None
) -> tuple[float, list[tuple[float, float]], int]:
    """Return the mean, its standard errors above 0 with their degrees of freedom, and the number of users."""
    num_trainings, num_samples = differences_KS.shape
    sums_CK, sizes_C = cluster_sums(differences_KS.T, clusters_S)
    num_clusters = len(sizes_C)
    means_K = differences_KS.mean(axis=1)
    mean = float(means_K.mean())
    # A user's part is measured from a mean that it pulls along, by its share of the samples; and users that differ much
    # in size are worth fewer alike ones.
    left_C = 1 - sizes_C / num_samples
    alike = float((sizes_C**2).sum() ** 2 / (sizes_C**4).sum())
    # What each user adds to the error of each training's mean; their mean over trainings is the users' own part.
    parts_CK = (sums_CK - sizes_C[:, None] * means_K) / num_samples
    own_C = parts_CK.mean(axis=1)
    both_C = ((parts_CK - own_C[:, None]) ** 2).sum(axis=1) / (num_trainings * (num_trainings - 1))
    trainings = float(means_K.var(ddof=1)) / num_trainings
    users, both = _over(own_C**2, left_C), _over(both_C, left_C)
    variance = max(trainings + users - both, trainings, users)
    of_users = max(1.0, alike - 1)
    share = (trainings**2 + both**2 / of_users) / (num_trainings - 1) + users**2 / of_users
    found = [(variance, max(1.0, variance**2 / share) if share else 1.0), (trainings, num_trainings - 1.0)]
    return mean, [(part**0.5, df) for part, df in found if part > 0], num_clusters


def _over(part_C: Float64[np.ndarray, "C"], left_C: Float64[np.ndarray, "C"]) -> float:
    return float(np.divide(part_C, left_C, out=np.zeros_like(part_C), where=left_C > 0).sum())


def trainings_intervals(
    values_MKS: Float64[np.ndarray, "M K S"],
    clusters_S: Shaped[np.ndarray, "S"] | None = None,
    *,
    confidence: float = CONFIDENCE,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> list[Interval]:
    """Compute the interval of each metric's mean by a bootstrap of two levels: trainings are drawn, then users.

    Every draw of trainings meets every draw of users. K trainings spread by (K - 1) / K too little when they are drawn
    from themselves, so their deviations from the mean are widened by the square root of K / (K - 1). One training has
    no spread: the interval is then that of its users. Metrics share all draws.

    Source: Owen 2007 ("pigeonhole bootstrap"); the correction as in Davison & Hinkley 1997, chapter 3.
    """
    num_metrics, num_trainings, num_samples = values_MKS.shape
    sums_CX, sizes_C = cluster_sums(values_MKS.reshape(-1, num_samples).T, clusters_S)
    means_MK = values_MKS.mean(axis=2)
    widened = (num_trainings / max(1, num_trainings - 1)) ** 0.5 - 1
    apart_X = (means_MK - means_MK.mean(axis=1, keepdims=True)).ravel() * widened
    sums_CX = sums_CX + sizes_C[:, None] * apart_X
    rng = np.random.default_rng(seed)
    drawn = []
    for draws_RC in cluster_draws(len(sizes_C), num_resamples, rng):
        chosen_RK = rng.multinomial(num_trainings, np.full(num_trainings, 1 / num_trainings), size=len(draws_RC))
        means_RMK = (draws_RC @ sums_CX).reshape(-1, num_metrics, num_trainings) / (draws_RC @ sizes_C)[:, None, None]
        drawn.append((means_RMK * chosen_RK[:, None]).sum(axis=2) / num_trainings)
    tail = (1 - confidence) / 2
    low_M, high_M = np.quantile(np.concatenate(drawn), [tail, 1 - tail], axis=0)
    found = zip(means_MK.mean(axis=1), low_M, high_M, strict=True)
    return [Interval(float(value), float(low), float(high)) for value, low, high in found]
