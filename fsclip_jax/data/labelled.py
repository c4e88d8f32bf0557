"""From a list of labelled records to an ``ImageSource``: what all readers have in common."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Int8
from PIL import Image

from fsclip_jax.data.published import KnownSet
from fsclip_jax.data.source import ImageSource
from fsclip_jax.data.splits import split_by_hash, split_named
from fsclip_jax.errors import UserError


@dataclass(frozen=True)
class ImageRecords:
    """Labelled images in the order in which they are stored.

    Labels may skip numbers. ``positions`` are where the reader finds each image; empty for the
    order of the keys.
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
) -> ImageSource:
    """Make a source of records; classes without an image are closed up.

    ``load`` takes a wanted size too. Labels become 0 to C - 1 in the order of those given.

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
        templates=templates,
        load=load,
        draft=True,
    )


def content_version(*parts: Iterable[str]) -> str:
    """Hash lists of strings, whose order and borders count, into the version of a data set.

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


def split_published(
    known: KnownSet | None, named: Sequence[str], keys: Sequence[str], labels: Int[np.ndarray, "n"]
) -> Int8[np.ndarray, "n"]:
    """Split images without CoOp's JSON, by the rules in ``data.splits``; -1 without a place.

    ``named`` is the split that each image comes with.
    """
    if known and known.pooled:
        return split_by_hash(keys, labels)
    return split_named(named, keys, labels, drawn_val=known.drawn_val if known else True)


def image_and_label(
    images: Sequence[str],
    labels: Sequence[str],
    features: Iterable[tuple[str, Any]],
    spec: str,
    label_names: Sequence[str] = ("label",),
) -> tuple[str, str]:
    """Choose the field of the image and that of the label among those of a fitting type.

    ``label_names`` is what labels are called; the first that is there counts.

    Raises:
        UserError: there is none, or several of which none has such a name.
    """

    def choose(found: Sequence[str], names: Sequence[str]) -> str | None:
        return next((n for n in names if n in found), found[0] if len(found) == 1 else None)

    image, label = choose(images, ("image",)), choose(labels, label_names)
    if image is None or label is None:
        kinds = ", ".join(f"{name}: {type(kind).__name__}" for name, kind in features)
        raise UserError(
            f"{spec}: a record needs one Image and one ClassLabel, called image and label if there "
            f"are several; it has {kinds}"
        )
    return image, label
