"""Picture files to RGB: what is done with rotation, transparency and odd formats."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from fsclip_jax.data.source import UnreadableImage

Reading: TypeAlias = Literal["upright", "clip"]
"""How a file becomes RGB. ``upright``: as a person would see it, the EXIF orientation applied and
transparency laid on white. ``clip``: as CLIP's own pipeline and all published numbers do, where
both are ignored: the stored rows are taken, and below transparency lies whatever was stored."""

_DRAFT_MARGIN = 2
"""A JPEG that is decoded small keeps this many times the pixels asked for."""


@dataclass(frozen=True)
class FileLoader:
    """Reads the pictures of a data set from files; can be sent to other processes.

    Attributes:
        keys: name of every picture, the path below the root with ``/`` between its parts.
    """

    root: Path
    keys: tuple[str, ...]
    reading: Reading = "clip"

    def __call__(self, index: int, at_least: int | None = None) -> Image.Image:
        """Read one picture.

        Raises:
            UnreadableImage: see ``read_image``.
        """
        key = self.keys[index]
        return read_image(self.root / key, key, self.reading, at_least)


def read_image(
    path: Path, key: str, reading: Reading = "upright", at_least: int | None = None
) -> Image.Image:
    """Read one picture file as RGB.

    Of an animation the first frame is taken; 16-bit greys are scaled to 8 bits. ``at_least`` pixels
    are wanted of the shorter edge: a JPEG is then decoded at the smallest of 1/1, 1/2, 1/4, 1/8
    that leaves twice as many: quicker, but not the same pixels (``docs/data.md`` says how far off).
    None decodes all there is.

    Raises:
        UnreadableImage: the file is missing, empty, truncated, no picture, or larger than
            Pillow's limit against decompression bombs.
    """
    try:
        with path.open("rb") as file:
            return _decode(file, key, reading, at_least)
    except OSError as error:
        if isinstance(error, UnreadableImage):
            raise
        raise UnreadableImage(key, error.strerror or type(error).__name__) from error


def decode_image(
    data: bytes, key: str, reading: Reading = "clip", at_least: int | None = None
) -> Image.Image:
    """Decode one picture that is in memory; else as ``read_image``.

    Raises:
        UnreadableImage: see ``read_image``.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("L", (2, 1), 7).save(file, "PNG")
        >>> decode_image(file.getvalue(), "grey").getpixel((0, 0))
        (7, 7, 7)
    """
    return _decode(io.BytesIO(data), key, reading, at_least)


def _decode(
    file: BinaryIO | io.BytesIO, key: str, reading: Reading, at_least: int | None
) -> Image.Image:
    try:
        if not file.read(1):
            raise UnreadableImage(key, "the file is empty")
        file.seek(0)
        with Image.open(file) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit and image.width * image.height > limit:
                size = f"{image.width} x {image.height}"
                raise UnreadableImage(key, f"{size} is over the limit of {limit} pixels")
            if at_least is not None:  # without effect where the format is not JPEG
                image.draft(None, (_DRAFT_MARGIN * at_least, _DRAFT_MARGIN * at_least))
            image.load()
            return _on_white(_upright(image)) if reading == "upright" else _plain(image)
    except (UnreadableImage, MemoryError):
        raise
    # A broken file can raise nearly anything: OSError, SyntaxError, ValueError, struct.error.
    except Exception as error:
        raise UnreadableImage(key, _reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "no picture that Pillow can read"
    return (str(error) or type(error).__name__).splitlines()[0]


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a picture with broken EXIF data is still a picture
        return image


def _on_white(image: Image.Image) -> Image.Image:
    """Convert to RGB, transparency laid on white."""
    if not image.has_transparency_data:
        return _plain(image)
    canvas = Image.new("RGBA", image.size, "white")
    canvas.alpha_composite(image.convert("RGBA"))
    return canvas.convert("RGB")


def _plain(image: Image.Image) -> Image.Image:
    """Convert to RGB, transparency dropped."""
    if image.mode.startswith("I"):  # Pillow would cut 16 bits off at 255, which is white nearly all
        image = Image.fromarray((np.asarray(image, np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == "P" and image.has_transparency_data:
        image = image.convert("RGBA")  # the same colours; the direct way warns of a table of alphas
    return image.convert("RGB")
