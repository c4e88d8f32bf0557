"""From a list of labelled records to an ``ImageSource``: what all readers have in common."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int8
from PIL import Image

from fsclip_jax.data.source import ImageSource
from fsclip_jax.errors import UserError

_SHOWN = 5


@dataclass(frozen=True)
class ImageRecords:
    """Labelled images in the order in which they are stored.

    Attributes:
        labels: class of every image; numbers may be skipped.
        splits: position in ``SPLITS`` of every image.
        positions: where the reader finds each image; the order of the keys if not given.
    """

    keys: tuple[str, ...]
    labels: Int[np.ndarray, "n"]
    splits: Int8[np.ndarray, "n"]
    class_names: tuple[str, ...]
    positions: tuple[int, ...] = ()


def make_source(
    spec: str,
    records: ImageRecords,
    *,
    version: str,
    templates: tuple[str, ...],
    load: Callable[..., Image.Image],
    draft: bool,
) -> ImageSource:
    """Make a source of records; classes without an image are closed up.

    Args:
        draft: whether ``load`` takes a wanted size.

    Returns:
        The source. Labels are 0 to C - 1 in the order of the labels that were given.

    Raises:
        UserError: no image, fewer than two classes with images, or a key that is there twice.
    """
    used, labels = np.unique(np.asarray(records.labels, np.int64), return_inverse=True)
    if len(used) < 2:
        found = f"images of one class only, {records.class_names[used[0]]}" if len(used) else "none"
        raise UserError(f"{spec}: found {found}; a data set needs images of at least two classes")
    repeated = len(records.keys) - len(set(records.keys))
    if repeated:
        raise UserError(f"{spec}: {repeated} image(s) are listed twice; list each once")
    return ImageSource(
        spec=spec,
        version=version,
        class_names=tuple(records.class_names[label] for label in used),
        labels=labels.astype(np.int32).reshape(-1),
        keys=records.keys,
        splits=np.asarray(records.splits, np.int8),
        domains=None,
        domain_names=(),
        templates=templates,
        load=load,
        draft=draft,
    )


def content_version(*parts: Iterable[str]) -> str:
    """Hash lists of strings into the version of a data set.

    Args:
        *parts: lists; their order and borders count.

    Example:
        >>> content_version(["a"], ["b"]) == content_version(["a", "b"])
        False
    """
    digest = hashlib.sha256()
    for part in parts:
        for text in part:
            digest.update(text.encode("utf-8", "surrogateescape") + b"\0")
        digest.update(b"\1")
    return digest.hexdigest()[:16]


def some(names: Sequence[str]) -> str:
    """Name the first few of many.

    Example:
        >>> some(["a", "b", "c", "d", "e", "f", "g"])
        'a, b, c, d, e and 2 more'
    """
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
