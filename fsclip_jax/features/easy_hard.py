"""Which classes zero-shot classification finds easy, measured on train images alone."""

import numpy as np

from fsclip_jax.data.splits import TRAIN
from fsclip_jax.errors import UserError
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.typing import Float, Int

EASY = 0.7
"""Part of the classes that are easy."""

_ROWS = 4096


def zero_shot_by_class(stored: StoredBank) -> Float[np.ndarray, " classes"]:
    """Zero-shot accuracy, 0 to 1, of every class on its train images, -1 for one without any.

    Raises:
        UserError: there is no text to classify by.
    """
    if stored.text_features is None:
        raise UserError(
            f"easy and hard classes are told by zero-shot, and {stored.path} has no text: leave "
            "--class-split (training: --classes easy) out"
        )
    rows = np.flatnonzero(stored.splits == TRAIN)
    classes = len(stored.class_names)
    right = np.zeros(classes, np.int64)
    for first in range(0, len(rows), _ROWS):
        some = rows[first : first + _ROWS]
        best = (stored.read(some)[0] @ stored.text_features.T).argmax(axis=1)
        labels = stored.labels[some]
        right += np.bincount(labels[best == labels], minlength=classes)
    total = np.bincount(stored.labels[rows], minlength=classes)
    return np.where(total > 0, right / np.maximum(total, 1), -1.0)


def easy_hard(
    accuracy: Float[np.ndarray, " classes"],
) -> tuple[Int[np.ndarray, " easy"], Int[np.ndarray, " hard"]]:
    """Split the classes into the 70 % that are easiest and the others, rounded down.

    The published lists were made by hand from the accuracies of one backbone; here they are
    computed for the backbone at hand. Of equal classes the first are easy.

    Example:
        >>> easy, hard = easy_hard(np.array([0.2, 0.9, 0.9, 0.4]))
        >>> easy.tolist(), hard.tolist()
        ([1, 2], [0, 3])

    Source: Cheng et al., Meta-Adapter: An Online Few-shot Learner for Vision-Language Model,
    NeurIPS 2023, section 4.1 (cross-category generalisation).
    """
    count = int(EASY * len(accuracy) + 1e-9)
    order = np.argsort(-accuracy, kind="stable").astype(np.int32)
    return np.sort(order[:count]), np.sort(order[count:])
