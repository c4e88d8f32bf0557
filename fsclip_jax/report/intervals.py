"""Means with 95 % confidence intervals over repeated draws."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A mean and half the width of its 95 % interval; ``None`` for a single draw."""

    mean: float
    ci95: float | None


def student_t_quantile(freedom: int, level: float = 0.95) -> float:
    """Bound within which a Student-t variable lies with probability ``level``, on both sides.

    Example:
        >>> round(student_t_quantile(2), 3)
        4.303
    """
    from scipy.special import stdtrit  # a fifth of a second, which `predict` can do without

    return float(stdtrit(freedom, (1 + level) / 2))


def confidence_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Mean and 95 % interval over draws, ``t_{0.975, n-1} s / sqrt(n)``.

    Example:
        >>> mean, half = confidence_interval([1.0, 2.0, 3.0])
        >>> mean, round(half, 3)
        (2.0, 2.484)
    """
    array = np.asarray(values, np.float64)
    if array.size < 2:
        return Interval(float(array.mean()), None)
    error = float(array.std(ddof=1)) / math.sqrt(array.size)
    return Interval(float(array.mean()), student_t_quantile(array.size - 1) * error)


LEAST_IN_BIN = 25
"""Images that a bin of confidence holds: its 95 % interval is then within 19 points."""

MOST_BINS = 15
"""Bins of confidence, where there are images enough."""

_Z = 1.959963984540054
"""A normal variable is within this with probability 0.95."""


def wilson_interval(right: int | float, count: int | float) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a share: of one set of answers, not of draws.

    ``(p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4 n^2)) / (1 + z^2 / n)``. Counts may be means.

    Example:
        >>> tuple(round(bound, 3) for bound in wilson_interval(8, 10))
        (0.49, 0.943)
    """
    share, square = right / count, _Z**2
    centre = share + square / (2 * count)
    half = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    whole = 1 + square / count
    return max(0.0, (centre - half) / whole), min(1.0, (centre + half) / whole)


def paired_difference(
    values: Sequence[float] | np.ndarray, reference: Sequence[float] | np.ndarray
) -> Interval:
    """Interval of the mean difference of two methods that saw the same draws, in the same order.

    The draws are common to both, so their luck cancels: this interval is narrower than what two
    separate intervals suggest, and it is the one to judge a difference by.

    Example:
        >>> paired_difference([2.0, 3.0], [1.0, 2.0])
        Interval(mean=1.0, ci95=0.0)
    """
    return confidence_interval(np.asarray(values, np.float64) - np.asarray(reference, np.float64))
