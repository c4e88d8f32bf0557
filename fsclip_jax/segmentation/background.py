"""Telling things from background: one rule for all methods, so that they differ in classes only.

A line through the features of the points, by logistic regression on the ``train`` scenes (base
classes, train artists), tells how much a point looks like a thing. A part of a picture is
background where the mean over its points lies below a threshold: the one under which things and
background of the ``val`` scenes overlap best with what is said of them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Line(NamedTuple):
    """Says how much a feature looks like a thing: ``weights . f + bias``."""

    weights: Float[np.ndarray, "dim"]
    bias: float


def fit_line(
    features: Float[np.ndarray, "n dim"], things: Bool[np.ndarray, "n"], most: int = 20_000
) -> Line:
    """Fit a line that has things on one side and background on the other.

    It is fitted to ``most`` of the unit features at most, evenly chosen.

    Example:
        >>> x = np.array([[1.0, 0.0], [0.0, 1.0]] * 5)
        >>> line = fit_line(x, np.array([True, False] * 5))
        >>> bool(line.weights[0] > 0 > line.weights[1])
        True
    """
    from sklearn.linear_model import LogisticRegression

    rows = np.unique(np.linspace(0, len(features) - 1, most).astype(int))
    model = LogisticRegression(C=10.0, max_iter=500).fit(features[rows], things[rows])
    return Line(model.coef_[0].astype(np.float32), float(model.intercept_[0]))


def best_threshold(
    scores: Float[np.ndarray, "parts"], counts: Int[np.ndarray, "parts classes"]
) -> float:
    """Choose the threshold at which the mean of two overlaps is largest.

    The two are the intersection over union of things and of background. Parts that score below it
    are background; in ``counts``, pixels of every class in every part, that is class 0.

    Example:
        >>> best_threshold(np.array([-1.0, 0.5, 2.0]), np.array([[9, 0], [8, 1], [0, 9]]))
        2.0
    """
    order = np.argsort(scores, kind="stable")
    empty, thing = counts[order, 0].astype(float), counts[order, 1:].sum(1).astype(float)
    # With the first k parts called background:
    right_empty = np.concatenate([[0.0], np.cumsum(empty)])
    lost_things = np.concatenate([[0.0], np.cumsum(thing)])
    right_things = thing.sum() - lost_things
    empty_iou = right_empty / np.maximum(empty.sum() + lost_things, 1)
    thing_iou = right_things / np.maximum(thing.sum() + empty.sum() - right_empty, 1)
    k = int(np.argmax(empty_iou + thing_iou))
    return float(scores[order[k]]) if k < len(order) else float(np.inf)
