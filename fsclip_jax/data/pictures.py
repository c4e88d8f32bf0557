"""Picture files to RGB: what is done with rotation, transparency and odd formats."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from PIL import Image

from fsclip_jax.data.source import UnreadableImage
from fsclip_jax.pixels import FORMATS, open_image, require_regular, to_rgb, upright

Reading: TypeAlias = Literal["upright", "clip"]
"""How a file becomes RGB. ``upright``: as a person would see it, the EXIF orientation applied and
transparency laid on white. ``clip``: as CLIP's own pipeline and all published numbers do, where
both are ignored: the stored rows are taken, and below transparency lies whatever was stored."""

_DRAFT_MARGIN = 2
"""A JPEG that is decoded small keeps this many times the pixels asked for."""


@dataclass(frozen=True)
class FileLoader:
    """Reads the pictures of a data set from files; can be sent to other processes.

    A picture's key is its path below the root, with ``/`` between the parts.
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

    Of an animation the first frame is taken. ``at_least`` pixels are wanted of the shorter edge: a
    JPEG is then decoded at the smallest of 1/1, 1/2, 1/4, 1/8 that leaves twice as many: quicker,
    but not the same pixels (``docs/data.md`` says how far off). None decodes all there is.

    Raises:
        UnreadableImage: the file is missing, empty, truncated, no regular file, none of
            ``pixels.FORMATS``, or larger than ``pixels.open_image`` takes.
    """
    try:
        require_regular(path)
        with path.open("rb") as file:
            return _decode(file, key, reading, at_least)
    except UnreadableImage:
        raise
    except OSError as error:
        raise UnreadableImage(key, error.strerror or type(error).__name__) from error
    except ValueError as error:  # of a name that no file can have
        raise UnreadableImage(key, str(error)) from error


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
        with open_image(file) as image:
            if at_least is not None:  # without effect where the format is not JPEG
                image.draft(None, (_DRAFT_MARGIN * at_least, _DRAFT_MARGIN * at_least))
            image.load()
            return as_read(image, reading)
    except UnreadableImage:
        raise
    # A broken file can raise nearly anything: OSError, SyntaxError, ValueError, struct.error.
    except Exception as error:
        raise UnreadableImage(key, _reason(error)) from error


def as_read(image: Image.Image, reading: Reading) -> Image.Image:
    """Make RGB of a picture that is in memory, as is done with those in files."""
    return to_rgb(upright(image)) if reading == "upright" else to_rgb(image, on_white=False)


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return f"no picture: none of {', '.join(FORMATS)}"
    return (str(error) or type(error).__name__).splitlines()[0]
