"""Which detections of an image are kept."""

from typing import NamedTuple

import numpy as np

from fsclip_jax.typing import Bool, Float, Int


class Kept(NamedTuple):
    """Detections of one image, the best first."""

    region: Int[np.ndarray, " kept"]
    """Which box."""
    label: Int[np.ndarray, " kept"]
    """Which class."""
    score: Float[np.ndarray, " kept"]


def keep_best(
    scores: Float[np.ndarray, "region way"],
    over: Bool[np.ndarray, "region region"],
    most: int,
    least: float = 0.0,
) -> Kept:
    """Keep the best detections of an image, class by class without near duplicates.

    Greedy non-maximum suppression: pairs of box and class are taken from the best down, ``most``
    over all classes; a pair is left out where it does not score above ``least``, or where a better
    box of the same class overlaps it as ``over`` says.

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
