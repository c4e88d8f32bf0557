"""Imbalanced shots: some classes have many labelled images, others a single one.

``imbalanced:M`` gives ``C`` classes ``C * M`` shots in all, at least one each. The others go to the
classes in parts of a Dirichlet distribution of concentration 2, as in Veilleux et al., "Realistic
Evaluation of Transductive Few-Shot Learning" (there for the queries). A class that has no more
train images takes all of them, and the others share the rest. The counts depend on seed and
classes: every method has the same.
"""

import numpy as np

from fsclip_jax.errors import UserError
from fsclip_jax.typing import Int

CONCENTRATION = 2.0
_SEED = 4
"""Beside the seed of the draw: the counts are drawn apart from the images."""


def uneven_counts(
    mean: int, seed: int, classes: Int[np.ndarray, " way"], sizes: Int[np.ndarray, " way"]
) -> Int[np.ndarray, " way"]:
    """Draw how many shots each class has.

    Args:
        sizes: train images of each class; none gets more.

    Raises:
        UserError: all classes together have too few images.

    Example:
        >>> counts = uneven_counts(4, 0, np.arange(5), np.full(5, 100))
        >>> int(counts.sum()), int(counts.min()) >= 1
        (20, True)
    """
    left = len(classes) * mean - int(np.minimum(sizes, 1).sum())
    if left > (spare := int(np.maximum(sizes - 1, 0).sum())):
        most = int(sizes.sum()) // len(classes)
        raise UserError(
            f"imbalanced:{mean} asks for {len(classes) * mean} shots of {len(classes)} classes, "
            f"which have {spare + len(classes)} images: give imbalanced:{max(most, 1)} or less"
        )
    # One share for every class id: it does not depend on which classes are asked beside it.
    share = np.random.default_rng([_SEED, seed]).gamma(CONCENTRATION, size=int(classes.max()) + 1)
    share, counts = share[classes], np.minimum(sizes, 1).astype(np.int32)
    while left:
        room = sizes - counts
        part = np.where(room > 0, share, 0)
        quota = left * part / part.sum()
        more = np.minimum(quota.astype(np.int32), room)
        if not more.any():  # less than one each: to the largest parts
            more[np.argsort(-quota, kind="stable")[:left]] = 1
            more = np.minimum(more, room)
        counts, left = counts + more, left - int(more.sum())
    return counts.astype(np.int32)
