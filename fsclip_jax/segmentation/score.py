"""Mean intersection over union."""

import numpy as np
from jaxtyping import Float, Int


def confusion(
    predicted: Int[np.ndarray, "parts"], counts: Int[np.ndarray, "parts classes"]
) -> Int[np.ndarray, "classes classes"]:
    """Count pixels by true and predicted class, from those of every true class in every part.

    Example:
        >>> confusion(np.array([0, 1]), np.array([[3, 1], [0, 2]])).tolist()
        [[3, 0], [1, 2]]
    """
    classes = counts.shape[1]
    total = np.zeros((classes, classes), np.int64)
    np.add.at(total.T, predicted, counts)
    return total


def class_ious(table: Int[np.ndarray, "classes classes"]) -> Float[np.ndarray, "classes"]:
    """Intersection over union of every class, ``TP / (TP + FP + FN)`` over all pixels.

    It is NaN for a class that is neither there nor predicted.

    Example:
        >>> class_ious(np.array([[3, 0], [1, 2]])).round(3).tolist()
        [0.75, 0.667]
    """
    right = np.diag(table).astype(np.float64)
    union = table.sum(0) + table.sum(1) - right
    return np.divide(right, union, out=np.full(len(table), np.nan), where=union > 0)
