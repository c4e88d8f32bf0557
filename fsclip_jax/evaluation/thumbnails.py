"""Small pictures for a report, as data URIs."""

import base64
import io
from collections.abc import Callable, Iterable
from typing import TypeAlias

from PIL import Image

from fsclip_jax.data.registry import open_source
from fsclip_jax.data.source import UnreadableImage
from fsclip_jax.errors import UserError
from fsclip_jax.features.bank import StoredBank

EDGE = 48
"""Pixels of the longer edge of a small picture."""

LOCAL = ("emoji", "folder", "coop")
"""Kinds of data whose pictures are files at hand. Others may have to be downloaded first."""

Painter: TypeAlias = Callable[[Iterable[str]], dict[str, str]]
"""From keys of a bank to data URIs, by key; without those that cannot be read."""


def no_pictures(keys: Iterable[str]) -> dict[str, str]:
    """Return no picture at all, for data that is not at hand.

    Example:
        >>> no_pictures(["a.png"])
        {}
    """
    del keys
    return {}


def painter_of(stored: StoredBank) -> Painter:
    """Find out how pictures of a bank's images can be had.

    Args:
        stored: the opened bank; its manifest names the data it was made of.

    Returns:
        A function that reads the small pictures; :func:`no_pictures` where the images are not on
        this machine, or are another version of the data.
    """
    data = stored.manifest.get("data", {})
    spec = str(data.get("spec") or "")
    if spec.partition(":")[0] not in LOCAL:
        return no_pictures
    try:
        source = open_source(spec)
    except UserError:
        return no_pictures
    if source.version != data.get("version"):
        return no_pictures
    place = {key: index for index, key in enumerate(source.keys)}

    def paint(keys: Iterable[str]) -> dict[str, str]:
        found = {}
        for key in dict.fromkeys(keys):
            if key not in place:
                continue
            try:
                found[key] = data_uri(source.load(place[key]))
            except UnreadableImage:
                continue
        return found

    return paint


def data_uri(image: Image.Image, edge: int = EDGE) -> str:
    """Shrink a picture and write it as a data URI, PNG or JPEG, whichever is shorter.

    Args:
        image: the picture.
        edge: pixels of its longer edge, at most.

    Returns:
        ``data:image/png;base64,...`` or the same with ``jpeg``.

    Example:
        >>> data_uri(Image.new("RGB", (300, 200), "white"))[:22]
        'data:image/png;base64,'
    """
    small = image.convert("RGB")
    small.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    # Flat art needs few colours, where JPEG would smear its edges; photographs need JPEG.
    flat = small.quantize(48, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    files = {
        "png": _file(flat, "PNG", optimize=True),
        "jpeg": _file(small, "JPEG", quality=80, optimize=True),
    }
    kind = min(files, key=lambda name: len(files[name]))
    return f"data:image/{kind};base64,{base64.b64encode(files[kind]).decode('ascii')}"


def _file(image: Image.Image, kind: str, *, optimize: bool, quality: int = 75) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, optimize=optimize, quality=quality)
    return stream.getvalue()
