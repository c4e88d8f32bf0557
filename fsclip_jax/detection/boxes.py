"""Geometry of boxes, and which detections of an image are kept."""

from typing import NamedTuple

import numpy as np

from fsclip_jax.typing import Bool, Float, Int


class Kept(NamedTuple):
    """Detections of one image, the best first.

    Attributes:
        region: which box.
        label: which class.
        score: how sure.
    """

    region: Int[np.ndarray, " kept"]
    label: Int[np.ndarray, " kept"]
    score: Float[np.ndarray, " kept"]


def overlaps(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Intersection over union of every pair of boxes; 0 where a box is empty.

    Args:
        a: left, top, width, height.
        b: the same.

    Returns:
        Numbers from 0 to 1, float64.

    Example:
        >>> overlaps(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 2, 2]])).round(3).tolist()
        [[0.333]]
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    union = a[:, None, 2:].prod(-1) + b[None, :, 2:].prod(-1) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def keep_best(
    scores: Float[np.ndarray, "region way"],
    over: Bool[np.ndarray, "region region"],
    most: int,
    least: float = 0.0,
) -> Kept:
    """Keep the best detections of an image, class by class without near duplicates.

    Greedy non-maximum suppression: pairs of box and class are taken from the best down; a pair
    is left out where a better box of the same class overlaps it.

    Args:
        scores: of every box for every class.
        over: which boxes overlap too much to be two objects of a class.
        most: detections to keep at most, over all classes.
        least: pairs that do not score above it are left out.

    Returns:
        The detections.

    Example:
        >>> over = np.array([[True, True], [True, True]])
        >>> keep_best(np.array([[0.9, 0.1], [0.8, 0.2]]), over, 5).label.tolist()
        [0, 1]
    """
    way = scores.shape[1]
    alive = scores > least
    kept: list[int] = []
    # The stable order of equal scores makes the result the same on every machine.
    for pair in np.argsort(-scores, axis=None, kind="stable"):
        if len(kept) == most or scores.flat[pair] <= least:
            break
        region, label = divmod(int(pair), way)
        if alive[region, label]:
            kept.append(int(pair))
            alive[over[region], label] = False
    pairs = np.array(kept, np.int64)
    return Kept(pairs // way, pairs % way, scores.reshape(-1)[pairs])
