"""Student's t distribution, and the smallest difference that a test with it sees."""

import math
from functools import lru_cache

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
    """Compute the true difference that a two-sided t-test at `level` finds with `power`, by the noncentral t."""
    return _shift(df, level, power) * error


@lru_cache(maxsize=1024)
def _shift(df: float, level: float, power: float) -> float:
    """Find that difference in standard errors."""
    critical = quantile(1 - level / 2, df)
    shifts = [critical, critical + quantile(power, df)]
    missed = [power - _chance_beyond(critical, df, shift) for shift in shifts]
    while abs(missed[-1]) > 1e-9 and shifts[-1] != shifts[-2]:  # by secants: the chance is smooth and rises
        shifts.append(shifts[-1] - missed[-1] * (shifts[-1] - shifts[-2]) / (missed[-1] - missed[-2]))
        missed.append(power - _chance_beyond(critical, df, shifts[-1]))
    return shifts[-1]


def _chance_beyond(critical: float, df: float, shift: float) -> float:
    """Compute the chance that |(Z + shift) / S| is above `critical`: Z normal, S^2 a chi-square over its `df`.

    Given S both tails are normal ones; their mean over S is taken by Gauss and Legendre, piece by piece, as the tail
    falls from 1 to 0 within a small part of the range of S where few degrees of freedom make `critical` large.
    """
    width = 9 / math.sqrt(2 * df)
    ends = np.sort(np.append(np.linspace(max(0.0, 1 - width), 1 + width, 4), min(shift / critical, 1 + width)))
    half_P1 = np.diff(ends)[:, None] / 2
    s_N = (ends[:-1, None] + half_P1 * (_NODES + 1)).ravel()
    scale = math.log(2) + df / 2 * math.log(df / 2) - math.lgamma(df / 2)
    density_N = np.exp(scale + (df - 1) * np.log(s_N) - df / 2 * s_N**2)
    tails = [_normal(shift - critical * s) + _normal(-shift - critical * s) for s in s_N.tolist()]
    return float(((half_P1 * _WEIGHTS).ravel() * density_N * tails).sum())


def _normal(z: float) -> float:
    return math.erfc(-z / math.sqrt(2)) / 2
