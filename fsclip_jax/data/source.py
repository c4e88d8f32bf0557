"""What a data set of labelled images is to the rest of the package."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int8
from PIL import Image

from fsclip_jax.data.splits import SPLITS
from fsclip_jax.errors import UserError

__all__ = ["SPLITS", "ImageSource", "UnreadableImage", "images_per_class", "require_images"]


class UnreadableImage(OSError):  # noqa: N818 (it is caught as the thing it names)
    """An image that cannot be decoded; whoever reads images counts it, names it and goes on."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Labelled images, named and split, whose pixels are read on demand."""

    spec: str
    """What the user typed, e.g. ``emoji`` or ``folder:DIR``."""
    version: str
    """Version or hash of the content; another version means another feature bank."""
    class_names: tuple[str, ...]
    """Name of every class; its position is its label."""
    labels: Int[np.ndarray, "n"]
    """Class of every image, int32."""
    keys: tuple[str, ...]
    """Unique name of every image: a relative file name or a record id."""
    splits: Int8[np.ndarray, "n"]
    """Position in ``SPLITS`` of every image; the rules are in ``fsclip_jax.data.splits``."""
    domains: Int[np.ndarray, "n"] | None
    """Artist family of every image, int32; None where the data has no families."""
    domain_names: tuple[str, ...]
    """Name of every family; empty where the data has none."""
    templates: tuple[str, ...]
    """Prompt templates with ``{}`` where the class name goes."""
    load: Callable[..., Image.Image]
    """Reads one image by its index. Raises ``UnreadableImage``, which names the key.

    It runs in threads and in worker processes, so it can be pickled and holds little: a
    ``functools.partial`` of a function of a module, or a frozen dataclass with ``__call__``, but
    no lock, no open file and no lambda. What it opens, it opens where it runs.
    """
    draft: bool = False
    """True where ``load(index, at_least)`` is accepted too: an image whose shorter edge has
    ``at_least`` pixels will do (None: all pixels), so that a JPEG may be decoded at a half, a
    quarter or an eighth. ``data.pictures.FileLoader`` does so; nothing else has to."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.keys)


def images_per_class(source: ImageSource, split: str | None = None) -> Int[np.ndarray, "classes"]:
    """Count the images of every class."""
    labels = source.labels
    if split is not None:
        labels = labels[source.splits == SPLITS.index(split)]
    return np.bincount(labels, minlength=len(source.class_names)).astype(np.int32)


def require_images(source: ImageSource, shots: int, split: str | None = None) -> None:
    """Refuse a data set in which a class has fewer images than the shots and one query.

    Args:
        shots: support images wanted of every class.

    Raises:
        UserError: naming the classes that have fewer than ``shots + 1`` images.
    """
    counts = images_per_class(source, split)
    short = np.flatnonzero(counts < shots + 1)
    if not short.size:
        return
    shown = ", ".join(f"{source.class_names[label]} ({counts[label]})" for label in short[:5])
    more = f" and {short.size - 5} more" if short.size > 5 else ""
    where = f" in the {split} split" if split else ""
    raise UserError(
        f"{source.spec}: {shots} shots need at least {shots + 1} images per class{where}, but "
        f"{short.size} of {len(counts)} classes have fewer: {shown}{more}; "
        "add images or ask for fewer shots"
    )
