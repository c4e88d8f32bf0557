"""Decode and cut images: what a thread or a worker process does with a run of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.data.source import ImageSource, UnreadableImage
from fsclip_jax.features.augment import views_of

_CHUNK_BYTES = 4 << 20
_CHUNK_IMAGES = 256


class Chunk(NamedTuple):
    """What came of some consecutive images."""

    pixels: UInt8[np.ndarray, "kept views size size 3"]
    lost: tuple[tuple[int, str], ...]
    """Position within the chunk of every other one, and what is wrong with it."""


@dataclass(frozen=True, eq=False)
class Decoder:
    """Turns consecutive images into pixels. It can be sent to another process.

    ``at_least`` is the pixels to ask of a JPEG's shorter edge; None decodes it whole.
    """

    load: Callable[..., Image.Image]
    keys: Sequence[str]
    preprocess: Preprocess
    views: int
    seed: int
    at_least: int | None = None

    def __call__(self, rows: range) -> Chunk:
        """Read, decode and cut images; one that cannot be read is counted and left out."""
        size, kept = self.preprocess.size, 0
        pixels = np.empty((len(rows), self.views, size, size, 3), np.uint8)
        lost = []
        for position, row in enumerate(rows):
            try:
                image = self.load(row) if self.at_least is None else self.load(row, self.at_least)
                key = self.keys[row]
                pixels[kept] = views_of(image, self.preprocess, key, self.views, self.seed)
                kept += 1
            # Whatever a decoder or a resize raises costs this picture, and never the run.
            except Exception as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                own = isinstance(error, UnreadableImage)
                lost.append((position, reason if own else f"{self.keys[row]}: {reason}"))
        return Chunk(pixels[:kept], tuple(lost))


def make_decoder(
    source: ImageSource, preprocess: Preprocess, views: int, seed: int, *, draft: bool = False
) -> Decoder:
    """Make the decoder of a source."""
    return Decoder(
        load=source.load,
        keys=source.keys,
        preprocess=preprocess,
        views=views,
        seed=seed,
        at_least=(preprocess.edge or preprocess.size) if draft and source.draft else None,
    )


def chunk_images(preprocess: Preprocess, views: int) -> int:
    """Return how many images go from a worker to the main process at once: 4 MB, 256 at most.

    Example:
        >>> chunk_images(Preprocess(224), 1), chunk_images(Preprocess(8), 1)
        (27, 256)
    """
    return max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // (views * 3 * preprocess.size**2)))


def split_rows(rows: range, size: int) -> Iterator[range]:
    """Cut consecutive rows into chunks.

    Example:
        >>> list(split_rows(range(3, 8), 3))
        [range(3, 6), range(6, 8)]
    """
    for low in range(rows.start, rows.stop, size):
        yield range(low, min(low + size, rows.stop))
