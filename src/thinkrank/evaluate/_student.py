"""Student's t distribution, and the smallest difference that a test with it sees."""

import math

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


def within(t: float, df: float) -> float:
    """Compute the chance that a t-distributed number lies between -t and t; `df` are degrees of freedom, any above 0.

    With t = sqrt(df) tan(a) the density becomes cos(a)^(df - 1), smooth enough for Gauss and Legendre: within 1e-7.
    """
    angle = math.atan(t / math.sqrt(df))
    # Beyond 9 / sqrt(df) nothing is left of the density of a large df, and nodes there would be lost to the rest.
    angle = min(angle, 9 / math.sqrt(df)) if df > 50 else angle
    angles = angle * (_NODES + 1) / 2
    return min(1.0, float(_scale(df) * angle * (_WEIGHTS * np.cos(angles) ** (df - 1)).sum()))


def quantile(chance: float, df: float) -> float:
    """Find the t that `chance`, above one half, of the distribution lies below: Newton's steps rise to it from 0."""
    t = 0.0
    for _ in range(100):
        missing = 2 * chance - 1 - within(t, df)
        step = missing / (2 * _scale(df) / math.sqrt(df) * (1 + t * t / df) ** (-(df + 1) / 2))
        t += step
        if abs(step) <= 1e-9 * t:
            break
    return t


def _scale(df: float) -> float:
    return math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)


def visible_difference(error: float, df: float, *, level: float = 0.05, power: float = 0.8) -> float:
    """Compute the true difference that a two-sided test at `level` finds with `power`: (t_level + t_power) error."""
    return (quantile(1 - level / 2, df) + quantile(power, df)) * error
