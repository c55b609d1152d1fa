"""The smallest effect that data can show: before a run from a pilot, after it from the real pairs.

Shape legend: S samples, C users.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Integer, Shaped

from thinkrank.evaluate._student import visible_difference
from thinkrank.evaluate.results import format_share
from thinkrank.evaluate.significance import MIN_CLUSTERS
from thinkrank.metrics import cluster_sums, mean_errors

POWER, LEVEL = 0.8, 0.05
"""Chance that a true effect is seen, and chance that one is seen where there is none, unless others are asked for."""


@dataclass(frozen=True)
class Spread:
    """Hold how much the difference of two systems varies: between users, and between samples of one user.

    Attributes:
        between: variance of users' own mean differences.
        within: variance of a sample's difference around its user's.
    """

    between: float
    within: float

    def error(self, sizes_C: Sequence[int] | Integer[np.ndarray, "C"]) -> float:
        """Foresee the standard error of the mean difference over users with so many samples each."""
        sizes = np.asarray(sizes_C, dtype=np.float64)
        total = sizes.sum()
        return math.sqrt(self.between * float((sizes**2).sum()) + self.within * float(total)) / float(total)


def spread(differences_S: Float64[np.ndarray, "S"], clusters_S: Shaped[np.ndarray, "S"] | None = None) -> Spread:
    """Estimate the spread of a difference from a pilot, by the analysis of variance of unequal groups.

    Args:
        differences_S: of each sample, system minus reference.
        clusters_S: whose sample each is; None if every sample stands alone, and then all spread is within.

    Raises:
        ValueError: with fewer than two samples.

    Source: Searle, Casella & McCulloch 1992, section 3.6 (ANOVA estimators of the unbalanced one-way layout).
    """
    num_samples = len(differences_S)
    if num_samples < 2:
        raise ValueError(f"a spread takes two samples at least, got {num_samples}")
    sums_C1, sizes_C = cluster_sums(differences_S[:, None], clusters_S)
    num_users, mean = len(sizes_C), float(differences_S.mean())
    if num_users in (1, num_samples):
        return Spread(0.0, float(differences_S.var(ddof=1)))
    means_C = sums_C1[:, 0] / sizes_C
    among = float((sizes_C * (means_C - mean) ** 2).sum())
    inside = float(((differences_S - mean) ** 2).sum()) - among
    within = inside / (num_samples - num_users)
    alike = (num_samples - float((sizes_C**2).sum()) / num_samples) / (num_users - 1)
    between = (among / (num_users - 1) - within) / alike
    return Spread(max(0.0, between), max(0.0, within))


def visible_effect(
    differences_S: Float64[np.ndarray, "S"],
    clusters_S: Shaped[np.ndarray, "S"] | None = None,
    *,
    power: float = POWER,
    level: float = LEVEL,
) -> float | None:
    """Compute the smallest true mean difference that `paired_test` on these samples finds with the power asked for.

    Args:
        differences_S: of each sample, system minus reference, as they came out.
        clusters_S: whose sample each is; None if every sample stands alone.
        power: chance that the effect is found.
        level: of the two-sided test.

    Returns:
        the effect, in the metric's unit; None with too few users for a test.
    """
    (error,), num_clusters = mean_errors(differences_S[:, None], clusters_S)
    if num_clusters < MIN_CLUSTERS:
        return None
    return visible_difference(float(error), num_clusters - 1.0, level=level, power=power)


def foreseen_effect(
    pilot: Spread,
    clusters_S: Shaped[np.ndarray, "S"],
    *,
    power: float = POWER,
    level: float = LEVEL,
) -> float | None:
    """Compute the smallest true mean difference that a run will find with the power asked for, from a pilot's spread.

    Args:
        pilot: how the difference varies.
        clusters_S: whose each sample is on which the run will be judged.
        power: chance that the effect is found.
        level: of the two-sided test.

    Returns:
        the effect, in the metric's unit; None with too few users for a test.
    """
    _, sizes_C = np.unique(clusters_S, return_counts=True)
    if len(sizes_C) < MIN_CLUSTERS:
        return None
    return visible_difference(pilot.error(sizes_C), len(sizes_C) - 1.0, level=level, power=power)


def effect_words(effect: float | None, reference: float, samples: int, users: int) -> str:
    """Say which effects so much data cannot show, as a share of the reference where that is above 0.

    Args:
        effect: the smallest visible one; None with too few users.
        reference: mean of what is compared with.
        samples: how many there are.
        users: whose.
    """
    whose = "" if users == samples else f" of {users:,} users"
    data = f"your {samples:,} test moments{whose}"
    if effect is None:
        return f"{data} are of too few users to see any effect"
    size = format_share(effect, reference) if reference > 0 else f"{effect:.2g}"
    return f"with {data}, effects below {size} cannot be seen"
