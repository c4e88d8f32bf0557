"""What predictions are worth, on the host: one function a metric.

A new metric of predictions is a function here, its name in ``PER_DRAW``, and its line in
``report/metrics.py``.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from fsclip_jax.typing import Bool, Float, Int

BINS = 15
"""Bins of confidence, from 0 to 1: ``(b - 1) / BINS < confidence <= b / BINS``."""


class Judged(NamedTuple):
    """Predictions beside the truth; every array has a leading axis of draws, or none.

    Attributes:
        confidence: probability of the predicted class.
        nll: negative logarithm of the probability of the true class, in nats.
        mask: true where a query is present; the others do not count.
    """

    predicted: Int[np.ndarray, "*draw query"]
    confidence: Float[np.ndarray, "*draw query"]
    nll: Float[np.ndarray, "*draw query"]
    labels: Int[np.ndarray, "*draw query"]
    mask: Bool[np.ndarray, "*draw query"]

    @property
    def right(self) -> Bool[np.ndarray, "*draw query"]:
        """True where the prediction is the true class."""
        return np.asarray(self.predicted == self.labels)


def accuracy(judged: Judged) -> Float[np.ndarray, "*draw"]:
    """Percentage of the queries that are classified right; ``nan`` where there is none.

    Example:
        >>> predicted, labels = np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])
        >>> ones = np.ones(4)
        >>> float(accuracy(Judged(predicted, ones, ones, labels, np.ones(4, bool))))
        75.0
    """
    right = np.sum(judged.right & judged.mask, axis=-1, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(100.0 * right / judged.mask.sum(axis=-1))


def class_mean_accuracy(judged: Judged) -> Float[np.ndarray, "*draw"]:
    """Mean over classes of the percentage right within a class.

    Equals :func:`accuracy` where all classes have the same number of queries; where they have
    not, no class counts more than another here. Classes without a query are left out.

    Example:
        >>> labels, ones = np.array([0, 0, 0, 1]), np.ones(4)
        >>> judged = Judged(np.zeros(4, int), ones, ones, labels, np.ones(4, bool))
        >>> float(class_mean_accuracy(judged))
        50.0
    """
    shape, queries = judged.labels.shape[:-1], judged.labels.shape[-1]
    parts = (each.reshape(-1, queries) for each in (judged.labels, judged.right, judged.mask))
    draws = zip(*parts, strict=True)
    means = [_class_mean(labels[mask], right[mask]) for labels, right, mask in draws]
    return np.asarray(means, np.float64).reshape(shape)


def _class_mean(labels: np.ndarray, right: np.ndarray) -> float:
    total = np.bincount(labels)
    there = total > 0
    shares = np.bincount(labels, right)[there] / total[there]
    return float(100.0 * np.mean(shares)) if there.any() else math.nan


def calibration_error(judged: Judged) -> Float[np.ndarray, "*draw"]:
    """Expected calibration error, ``sum_b n_b / n |accuracy_b - confidence_b|``, in points.

    0 is perfect, ``nan`` where no query is present.

    Example:
        >>> predicted, labels = np.zeros(4, int), np.array([0, 0, 0, 1])
        >>> judged = Judged(predicted, np.full(4, 0.95), np.ones(4), labels, np.ones(4, bool))
        >>> float(calibration_error(judged).round(6))
        20.0

    Source: Guo et al., "On Calibration of Modern Neural Networks", section 2.
    """
    confidence = np.asarray(judged.confidence, np.float64)
    place = bin_of(confidence)
    gap = np.where(judged.mask, judged.right - confidence, 0.0)
    sums = [np.abs(np.sum(gap * (place == b), axis=-1)) for b in range(BINS)]
    with np.errstate(invalid="ignore"):
        return np.asarray(100.0 * np.sum(sums, axis=0) / judged.mask.sum(axis=-1))


def bin_of(confidence: Float[np.ndarray, "*any"]) -> Int[np.ndarray, "*any"]:
    """Return the bin that each confidence falls into, counted from 0."""
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)


def mean_nll(judged: Judged) -> Float[np.ndarray, "*draw"]:
    """Mean negative log-likelihood of the queries that are present, in nats."""
    with np.errstate(invalid="ignore"):
        total = np.where(judged.mask, judged.nll, 0).sum(axis=-1, dtype=np.float64)
        return np.asarray(total / judged.mask.sum(axis=-1))


PER_DRAW: Mapping[str, Callable[[Judged], np.ndarray]] = {
    "accuracy": accuracy,
    "class_mean_accuracy": class_mean_accuracy,
    "calibration_error": calibration_error,
    "nll": mean_nll,
}
"""The metrics of predictions; what each is called and how it is shown, ``report.metrics`` says."""

POOLED = ("calibration_error",)
"""Metrics that a draw of few queries does not have: its bins would be empty. Those of all draws
are pooled into one number."""


def judge(judged: Judged, *, few: bool = False) -> dict[str, np.ndarray]:
    """Compute every metric, one number a draw; with ``few`` queries a draw, ``POOLED`` are one."""
    pooled = Judged(*(np.ravel(part) for part in judged))
    return {
        name: metric(pooled if few and name in POOLED else judged)
        for name, metric in PER_DRAW.items()
    }


def harmonic_mean(
    base: Float[np.ndarray, "*batch"], novel: Float[np.ndarray, "*batch"]
) -> Float[np.ndarray, "*batch"]:
    """Harmonic mean of base and novel accuracy, ``2 b n / (b + n)``, taken draw by draw.

    0 where both are 0.

    Example:
        >>> float(harmonic_mean(np.array(60.0), np.array(30.0)))
        40.0
    """
    total = base + novel
    return np.asarray(np.where(total > 0, 2 * base * novel / np.where(total > 0, total, 1), 0.0))
