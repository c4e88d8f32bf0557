"""What a data set of labelled images is to the rest of the package."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int, Int8
from PIL import Image

from fsclip_jax.errors import UserError
from fsclip_jax.printable import printable_tree


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
    domains: Int[np.ndarray, "n"] | None = None
    """Artist family of every image, int32; None where the data has no families."""
    domain_names: tuple[str, ...] = ()
    """Name of every family; empty where the data has none."""
    notes: tuple[str, ...] = ()
    """What the reader passed over or had to decide, a sentence each."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What was passed over, by its kind."""

    def __post_init__(self) -> None:
        """Make all names printable but the keys, by which images are found.

        Raises:
            UserError: a key is no name that a file can have.
        """
        for name in ("spec", "class_names", "domain_names"):
            value = printable_tree(getattr(self, name))
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        try:
            "".join(self.keys).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            wrong = error.object[max(0, error.start - 20) : error.end + 20]
            raise UserError(
                f"{self.spec}: {wrong} names an image by half of a character; rename it"
            ) from error

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.keys)
