"""Every split rule of the package, in one place.

Classes
    ``base_novel``: the first ceil(C/2) labels are base, the rest are novel (CoCoOp's rule),
    for every data set. The class order of the bundled emoji is a fixed pseudo-random one, so
    the two halves cover the same topics.
    ``meta_val``: of the classes an adapter is meta-trained on, the last fifth is held out to
    measure ``val`` accuracy while it trains.

Images
    ``emoji``: the split of an image is that of its artist family (``EMOJI_FAMILY_SPLITS``), so
    nothing in ``test`` was drawn by an artist seen in ``train`` or ``val``.
    ``folder:DIR`` with ``train``, ``val``, ``test`` sub-folders, or as ``split_called`` knows
    them: as the folders say.
    ``folder:DIR`` without them: ``split_by_hash``.
    ``coop:NAME@ROOT``: as CoOp's files say. The official val images of ImageNet are ``test`` (in
    CoOp they are val too), and there are none in ``val``.
    ``tfds:NAME@FILE``: as CoOp's JSON says; images that it does not list are left out.
    ``tfds:NAME`` and ``hf:NAME``: ``split_named``. Where CoOp drew its split at random from all
    images (``pooled`` in ``data.catalog``), ``split_by_hash`` over all of them.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int, Int8

SPLITS = ("train", "val", "test")
"""Names of the splits; the position of a name is its id."""

TRAIN, VAL, TEST = range(len(SPLITS))

EMOJI_FAMILY_SPLITS: Mapping[str, str] = {
    "noto": "train",
    "noto_v1": "train",
    "twemoji": "train",
    "emojione": "train",
    "fxemoji": "val",
    "fluent": "test",
    "streamline": "test",
}
"""Split of each artist family of the bundled emoji. All 627 classes have ``train`` and ``test``
images; 431 have one in ``val``."""


def base_novel(n_classes: int) -> tuple[Int[np.ndarray, "base"], Int[np.ndarray, "novel"]]:
    """Split the labels 0..C-1 into base and novel halves: the first ceil(C/2) are base.

    Example:
        >>> base, novel = base_novel(5)
        >>> base.tolist(), novel.tolist()
        ([0, 1, 2], [3, 4])

    Source: Zhou et al., Conditional Prompt Learning for Vision-Language Models, CVPR 2022,
    section 4.1.
    """
    ids = np.arange(n_classes, dtype=np.int32)
    half = (n_classes + 1) // 2
    return ids[:half], ids[half:]


def meta_val(
    class_ids: Int[np.ndarray, "classes"], fraction: float = 0.2
) -> tuple[Int[np.ndarray, "train"], Int[np.ndarray, "val"]]:
    """Hold out the last classes of those trained on, for accuracy while training.

    ``fraction`` is in [0, 1); the number of classes is rounded down, but at least one class if
    there are three or more; with fewer nothing is held out.

    Raises:
        ValueError: when the fraction is outside [0, 1).

    Example:
        >>> train, val = meta_val(np.arange(10))
        >>> train.tolist(), val.tolist()
        ([0, 1, 2, 3, 4, 5, 6, 7], [8, 9])
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction is {fraction}, but must be in [0, 1)")
    n = len(class_ids)
    held = 0 if n < 3 or fraction == 0 else max(1, int(n * fraction))
    return class_ids[: n - held], class_ids[n - held :]


def split_sizes(n: int) -> tuple[int, int, int]:
    """Sizes of train, val and test for a class of n images: 50, 20 and 30 percent.

    Small classes get an image in every split as soon as they have three: train takes floor(n/2)
    but at least one, val takes n/5 rounded but at least one of three, test takes the rest.

    Example:
        >>> [split_sizes(n) for n in (1, 2, 3, 10)]
        [(1, 0, 0), (1, 0, 1), (1, 1, 1), (5, 2, 3)]
    """
    train = min(n, max(1, n // 2))
    val = max(1, (2 * n + 5) // 10) if n >= 3 else 0
    return train, val, n - train - val


def split_by_hash(keys: Sequence[str], labels: Int[np.ndarray, "n"]) -> Int8[np.ndarray, "n"]:
    """Split the images of every class 50/20/30 in the order of the sha256 of their keys.

    The result depends on the names of a class's own images only: neither on the order of
    reading nor on the other classes, and there is no seed.

    Example:
        >>> split_by_hash(["a/1.png", "a/2.png", "a/3.png"], np.zeros(3, np.int32)).tolist()
        [1, 0, 2]
    """
    splits = np.empty(len(keys), np.int8)
    for indices in _hash_order(keys, labels):
        train, val, _ = split_sizes(len(indices))
        splits[indices[:train]] = TRAIN
        splits[indices[train : train + val]] = VAL
        splits[indices[train + val :]] = TEST
    return splits


def split_named(
    named: Sequence[str],
    keys: Sequence[str],
    labels: Int[np.ndarray, "n"],
    *,
    drawn_val: bool = True,
) -> Int8[np.ndarray, "n"]:
    """Make train, val and test of the splits that a published data set comes with.

    - ``train``, ``validation`` and ``test`` stay what they are.
    - With one of ``validation`` and ``test`` only, that one is test, and a fifth of the train
      images of every class, in the order of the sha256 of their keys, is val.
    - With ``train`` alone: ``split_by_hash``. Without ``train``: all is test.

    Without ``drawn_val`` nothing is drawn out of train where val is missing. Returns the position
    in ``SPLITS`` of every image; -1 where the name is none of these.

    Example:
        >>> split_named(["train", "test"], ["a", "b"], np.zeros(2, np.int32)).tolist()
        [0, 2]
    """
    # Each name is looked up once: there may be a million images.
    meaning = {name: split_called(name) for name in set(named)}
    splits = np.array([meaning[name] for name in named], np.int8)
    present = set(meaning.values())
    if present == {TRAIN} or present == {TRAIN, -1}:
        rows = np.flatnonzero(splits == TRAIN)
        splits[rows] = split_by_hash([keys[row] for row in rows.tolist()], labels[rows])
    elif TRAIN not in present:
        splits[splits == VAL] = TEST
    elif TEST not in present or VAL not in present:
        splits[splits == VAL] = TEST
        if drawn_val:
            _draw_val(splits, keys, labels)
    return splits


def split_called(name: str) -> int:
    """Return the position in ``SPLITS`` of what a folder or a split is called; -1 if it is none.

    Example:
        >>> [split_called(name) for name in ("Train", "valid", "test_set", "cat")]
        [0, 1, 2, -1]
    """
    return _MEANING.get(re.sub(r"[\W_]*(set|data|images|split)$", "", name.casefold()), -1)


_MEANING = {"train": TRAIN, "training": TRAIN, "test": TEST, "testing": TEST} | dict.fromkeys(
    ("validation", "val", "valid", "dev"), VAL
)


def _draw_val(splits: Int8[np.ndarray, "n"], keys: Sequence[str], labels: np.ndarray) -> None:
    """Turn a fifth of the train images of every class into val, in place."""
    rows = np.flatnonzero(splits == TRAIN)
    for indices in _hash_order([keys[row] for row in rows.tolist()], labels[rows]):
        splits[rows[indices[: len(indices) // 5]]] = VAL


def _hash_order(keys: Sequence[str], labels: np.ndarray) -> list[list[int]]:
    """The images of each class in the order of the sha256 of their keys."""
    digests = [hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest() for key in keys]
    members: dict[int, list[int]] = {}
    for index in sorted(range(len(keys)), key=digests.__getitem__):
        members.setdefault(int(labels[index]), []).append(index)
    return list(members.values())
