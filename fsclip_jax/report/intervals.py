"""Means with 95 % confidence intervals over repeated draws."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A mean and half the width of its confidence interval.

    Attributes:
        mean: mean over the draws.
        ci95: half-width of the 95 % interval; ``None`` for a single draw, which has none.
    """

    mean: float
    ci95: float | None


def student_t_within(t: float, freedom: int) -> float:
    r"""Probability that a Student-t variable lies between ``-t`` and ``t``.

    With :math:`\theta = \arctan(t / \sqrt{\nu})` the integral is a finite sum of powers of
    :math:`\cos\theta`, which needs no special functions.

    Args:
        t: a positive bound.
        freedom: degrees of freedom, 1 or more.

    Returns:
        The probability, 0 to 1.

    Example:
        >>> round(student_t_within(12.7062, 1), 4)
        0.95

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    theta = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(theta), math.sin(theta)
    odd = freedom % 2 == 1
    term = cosine if odd else 1.0
    total = 0.0 if freedom == 1 else term
    for power in range(3 if odd else 2, freedom - 1, 2):
        term *= cosine * cosine * (power - 1) / power
        total += term
    if odd:
        return 2 / math.pi * (theta + sine * total)
    return sine * total


@lru_cache(maxsize=1024)
def student_t_quantile(freedom: int, level: float = 0.95) -> float:
    """Bound within which a Student-t variable lies with probability ``level``.

    Args:
        freedom: degrees of freedom, 1 or more.
        level: probability of the two-sided interval.

    Returns:
        The positive bound, found by bisection to the last bit that matters.

    Example:
        >>> round(student_t_quantile(2), 3)
        4.303
    """
    low, high = 0.0, 1.0
    while student_t_within(high, freedom) < level:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        if student_t_within(middle, freedom) < level:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def confidence_interval(values: Sequence[float] | np.ndarray) -> Interval:
    r"""Mean and 95 % interval over draws, :math:`t_{0.975, n-1}\, s / \sqrt{n}`.

    Args:
        values: one number a draw.

    Returns:
        The mean and the half-width, in the unit of the values.

    Example:
        >>> mean, half = confidence_interval([1.0, 2.0, 3.0])
        >>> mean, round(half, 3)
        (2.0, 2.484)
    """
    array = np.asarray(values, np.float64)
    if array.size < 2:
        return Interval(float(array.mean()), None)
    spread = float(array.std(ddof=1)) / math.sqrt(array.size)
    return Interval(float(array.mean()), student_t_quantile(array.size - 1) * spread)


def paired_difference(
    values: Sequence[float] | np.ndarray, reference: Sequence[float] | np.ndarray
) -> Interval:
    """Interval of the mean difference of two methods that saw the same draws.

    The draws are common to both, so their luck cancels: this interval is narrower than what two
    separate intervals suggest, and it is the one to judge a difference by.

    Args:
        values: one number a draw.
        reference: the other method's numbers, in the same order.

    Returns:
        Mean and half-width of ``values - reference``.

    Example:
        >>> paired_difference([2.0, 3.0], [1.0, 2.0])
        Interval(mean=1.0, ci95=0.0)
    """
    return confidence_interval(np.asarray(values, np.float64) - np.asarray(reference, np.float64))
