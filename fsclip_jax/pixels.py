"""Any picture to pixels: which files are opened, how every mode becomes RGB, how CLIP cuts it.

It imports Pillow and NumPy alone, so that an exported predictor can carry it.
"""

import contextlib
import functools
import io
import os
import stat
import warnings
from typing import IO

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
"""All that is ever opened, beside HEIC, whatever a file is called: some of Pillow's other readers
start programs."""

HEIC_ENDINGS = (".heic", ".heif", ".hif", ".heics", ".heifs")
"""How the photographs of phones end that are HEVC in HEIF; they take a reader of their own."""

NEEDS_HEIC = "fsclip-jax[heic]"
"""What brings that reader, which is pillow-heif."""

_HEVC_BRANDS = {b"hei" + end for end in (b"c", b"x", b"m", b"s")} | {
    b"hev" + end for end in (b"c", b"x", b"m", b"s")
}

MAX_SIDE = 65_535
"""Pixels of the longest side that is decoded, the most that a JPEG can have."""

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

_LONG = 64
"""A picture this many times as long as wide is cut before it is resized: the same to a rounding,
and what would be resized and thrown away has no bound."""


@functools.cache
def _readers() -> tuple[str, ...]:
    Image.init()  # an older Pillow, or one built otherwise, may lack some
    return tuple(name for name in FORMATS if name in Image.OPEN)


@functools.cache
def reads_heic() -> bool:
    """Say whether HEIC can be read, and make it so where pillow-heif is there."""
    try:
        import pillow_heif

        # A thumbnail that lies in the file is another picture: other pixels.
        pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    except Exception:  # it is not there, or damaged
        return False
    return True


def _is_heic(head: bytes) -> bool:
    """Say whether a file begins as HEIF that holds HEVC; other HEIF, as AVIF, is not it."""
    if head[4:8] != b"ftyp":
        return False
    brands = head[8 : min(int.from_bytes(head[:4]), len(head))]
    return bool(_HEVC_BRANDS & {brands[at : at + 4] for at in range(0, len(brands), 4)})


def require_regular(path: str | os.PathLike[str]) -> None:
    """Raise ``OSError`` unless a path leads to a regular file.

    Opening a pipe may wait for ever, and opening a device may do anything.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, "Is a directory", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(22, "not a regular file but a pipe, a socket or a device", str(path))


def hush_pillow() -> None:
    """Keep this process from warning of broken metadata and of sizes, a line for every picture.

    What costs a picture is raised and told in any case.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")


def open_image(file: IO[bytes] | io.BytesIO) -> Image.Image:
    """Open a picture of the formats that are read; its pixels are not decoded yet.

    Raises:
        ValueError: it is larger than what is decoded.
        OSError: it is none of these formats, and whatever else Pillow raises.
    """
    readers, head = _readers(), file.read(256)
    file.seek(0)
    if _is_heic(head):
        if not reads_heic():
            raise OSError(f"HEIC, which needs pip install pillow-heif ({NEEDS_HEIC})")
        readers = ("HEIF",)
    image = Image.open(file, formats=readers)
    size, limit = f"{image.width} x {image.height}", Image.MAX_IMAGE_PIXELS
    if limit and image.width * image.height > limit:
        raise ValueError(f"{size} is over the limit of {limit} pixels")
    if max(image.size) > MAX_SIDE:
        raise ValueError(f"{size} is over the limit of {MAX_SIDE} pixels for a side")
    return image


def upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF orientation says."""
    with contextlib.suppress(Exception):  # a picture with broken EXIF data is still a picture
        return ImageOps.exif_transpose(image)
    return image


def to_rgb(image: Image.Image, *, on_white: bool = True) -> Image.Image:
    """Convert a picture of any mode to RGB.

    Transparency is laid on white, as ``transformers`` does it, or dropped, as OpenAI's code does,
    which uncovers whatever colour lies below. Greys of 16 bits are scaled to 8; of 32 bits and of
    floats as the smallest of 1 (floats), 8, 16 and 32 bits that holds the picture's largest value.

    Example:
        >>> to_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
        >>> to_rgb(Image.new("I", (1, 1), 7)).getpixel((0, 0))
        (7, 7, 7)
    """
    image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if on_white:
            canvas = Image.new("RGBA", image.size, "white")
            canvas.alpha_composite(image)
            image = canvas
    elif image.mode == "RGB":
        return image
    plain = image.convert("RGB")
    plain.info.pop("transparency", None)  # Pillow keeps a colour that was clear: it is no more
    return plain


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode[0] not in "IF":
        return image
    values = np.nan_to_num(np.asarray(image))
    if image.mode == "I" and getattr(image, "tag_v2", {}).get(339) in (1, (1,)):
        values = values.view(np.uint32)  # Pillow's mode has a sign, the TIFF's numbers have none
    top = values.max(initial=0)
    if image.mode.startswith("I;16") or 255 < top <= 65_535:
        factor = 2.0**-8
    elif image.mode == "F" and top <= 1:
        factor = 255.0
    else:
        factor = 1.0 if top <= 255 else 2.0**-24 if values.dtype != np.int32 else 2.0**-23
    grey = Image.fromarray((values * np.float64(factor)).clip(0, 255).astype(np.uint8))
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return grey
    alpha = Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha))


def cut(
    image: Image.Image,
    size: int,
    fit: str,
    resample: str,
    odd_margin: str,
    edge: int | None = None,
) -> np.ndarray:
    """Resize and crop an RGB picture to a square, uint8 [size size 3].

    A picture that is cropped has its shortest edge resized to ``edge`` before, or to the square.
    Memory is bounded by the square, however long the picture is.
    """
    if fit == "squash":
        return np.asarray(_resize(image, (size, size), FILTERS[resample]))
    # CLIP truncates the longer edge; an exact product keeps integers from rounding down.
    whole = [side * (edge or size) // min(image.size) for side in image.size]
    margins = [side - size for side in whole]
    left, top = (m // 2 if odd_margin == "floor" else round(m / 2) for m in margins)
    if max(whole) > _LONG * size:
        wide, high = (side / resized for side, resized in zip(image.size, whole, strict=True))
        right, bottom = (left + size) * wide, (top + size) * high
        box = (left * wide, top * high, min(right, image.width), min(bottom, image.height))
        return np.asarray(image.resize((size, size), FILTERS[resample], box))
    image = _resize(image, (whole[0], whole[1]), FILTERS[resample])
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _resize(image: Image.Image, size: tuple[int, int], how: Image.Resampling) -> Image.Image:
    return image if image.size == size else image.resize(size, how)
