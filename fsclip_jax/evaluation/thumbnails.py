"""Small pictures for a report, as data URIs."""

import base64
import contextlib
import io
from collections.abc import Iterable

from PIL import Image

from fsclip_jax.data.registry import open_source
from fsclip_jax.data.source import UnreadableImage
from fsclip_jax.errors import UserError
from fsclip_jax.features.bank import StoredBank

EDGE = 48
"""Pixels of the edge of a small picture, which is square."""

LOCAL = ("emoji", "folder", "coop")
"""Kinds of data whose pictures are files at hand. Others may have to be downloaded first."""


def pictures_of(stored: StoredBank, keys: Iterable[str]) -> dict[str, str]:
    """Return small pictures of a bank's images as data URIs, by key.

    Those that cannot be read are left out: all of them, where the images are not on this machine
    or are another version of the data.
    """
    data = stored.manifest.get("data", {})
    spec = str(data.get("spec") or "")
    if spec.partition(":")[0] not in LOCAL:
        return {}
    try:
        source = open_source(spec)
    except UserError:
        return {}
    if source.version != data.get("version"):
        return {}
    place = {key: index for index, key in enumerate(source.keys)}
    found = {}
    for key in sorted(place.keys() & set(keys)):
        with contextlib.suppress(UnreadableImage):
            found[key] = data_uri(source.load(place[key]))
    return found


def data_uri(image: Image.Image, edge: int = EDGE) -> str:
    """Crop a picture to a square, shrink it, and write it as PNG or JPEG, whichever is shorter.

    Example:
        >>> data_uri(Image.new("RGB", (300, 200), "white"))[:22]
        'data:image/png;base64,'
    """
    # The square in the middle is what a CLIP is shown of a photograph, too.
    small = image.convert("RGB")
    side = min(small.size)
    left, above = ((length - side) // 2 for length in small.size)
    small = small.crop((left, above, left + side, above + side))
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
