"""Which images of a bank are chosen: those of some splits and classes, sorted by class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fsclip_jax.data.splits import SPLITS
from fsclip_jax.errors import UserError, suggestion


def checked_classes(count: int, classes: np.ndarray | None) -> np.ndarray:
    """Return class ids to choose, all where none are given.

    Raises:
        UserError: one that is not there, or is there twice.
    """
    chosen = np.arange(count) if classes is None else np.asarray(classes, np.int64).reshape(-1)
    outside = chosen[(chosen < 0) | (chosen >= count)]
    if len(outside):
        raise UserError(f"class ids run from 0 to {count - 1}; asked for {outside[0]}")
    if len(np.unique(chosen)) != len(chosen):
        raise UserError("a class id was asked for twice; give each once")
    return chosen


def sorted_rows(
    path: Path, labels: np.ndarray, splits: np.ndarray, wanted: Sequence[str], classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the stored row and the new label of each image that is chosen, sorted by class.

    Class ``classes[i]`` becomes label ``i``; within a class the stored order is kept.

    Args:
        path: of the bank, for the error.

    Raises:
        UserError: no image at all, or a split that is not there.

    Example:
        >>> labels, splits = np.array([1, 0, 1, 2]), np.zeros(4, int)
        >>> rows, new = sorted_rows(Path("bank"), labels, splits, ("train",), np.array([2, 1]))
        >>> rows.tolist(), new.tolist()
        ([3, 0, 2], [0, 1, 1])
    """
    known = int(max(labels.max(initial=0), classes.max(initial=0))) + 1
    renumbered = np.full(known, -1, np.int32)
    renumbered[classes] = np.arange(len(classes), dtype=np.int32)
    new = renumbered[labels]
    rows = np.flatnonzero(np.isin(splits, _split_ids(wanted)) & (new >= 0))
    if not len(rows):
        raise UserError(
            f"{path} has no image of the split {' + '.join(wanted) or '(none)'} in the "
            f"{len(classes)} classes asked for; it holds {split_counts(splits)} images"
        )
    rows = rows[np.argsort(new[rows], kind="stable")]
    return rows, new[rows]


def _split_ids(names: Sequence[str]) -> list[int]:
    for name in names:
        if name not in SPLITS:
            hint = suggestion(name, SPLITS)
            raise UserError(f"unknown split {name!r}; accepted: {', '.join(SPLITS)}{hint}")
    return [SPLITS.index(name) for name in names]


def split_counts(splits: np.ndarray) -> str:
    """Say how many images each split has.

    Example:
        >>> split_counts(np.array([0, 0, 2]))
        'train 2, val 0, test 1'
    """
    counts = np.bincount(splits, minlength=len(SPLITS))
    return ", ".join(f"{name} {count}" for name, count in zip(SPLITS, counts, strict=True))
