"""Small square pictures as data URIs, each within a number of bytes."""

import base64
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image, features

from fsclip_jax.data.pictures import read_image
from fsclip_jax.data.source import UnreadableImage
from fsclip_jax.machine import cores
from fsclip_jax.pixels import cut

_LARGEST, _SMALLEST = 256, 8
_QUALITIES = (80, 60, 40, 20)
_FOUR_OF_THREE = 4 / 3  # what base64 makes longer


def edge_for(most: int) -> int:
    """Return the edge in pixels that so many characters are enough for, as photographs go.

    Example:
        >>> edge_for(4000), edge_for(10**6)
        (132, 256)
    """
    return max(_SMALLEST, min(_LARGEST, int(2.1 * max(most, 0) ** 0.5)))


def data_uri(image: Image.Image, edge: int, most: int) -> str:
    """Cut an RGB picture to a square as a tower sees it, and write it in ``most`` characters.

    Quality gives way first, then size; nothing is enlarged.

    Example:
        >>> data_uri(Image.new("RGB", (300, 200), "red"), 64, 1000)[:16]
        'data:image/webp;'
    """
    kind = "WEBP" if features.check("webp") else "JPEG"
    head = f"data:image/{kind.lower()};base64,"
    room = int((most - len(head)) / _FOUR_OF_THREE) - 3
    edge = min(edge, *image.size)
    while True:
        small = Image.fromarray(cut(image, edge, "crop", "bicubic", "floor"))
        for quality in _QUALITIES:
            file = io.BytesIO()
            small.save(file, kind, quality=quality, method=2)  # of WebP: quick, 4 % longer
            if file.tell() <= room:
                return head + base64.b64encode(file.getvalue()).decode("ascii")
        if edge <= _SMALLEST:
            return ""
        edge = max(_SMALLEST, edge * 2 // 3)


def thumbnails(files: Sequence[Path], edge: int, most: int) -> Iterator[str]:
    """Yield the small pictures of files in their order; empty for one that cannot be read."""
    pool = ThreadPoolExecutor(min(4, cores()))
    try:
        yield from pool.map(partial(_of_file, edge=edge, most=most), files)
    finally:
        pool.shutdown(cancel_futures=True)


def _of_file(file: Path, edge: int, most: int) -> str:
    try:
        return data_uri(read_image(file, file.name, at_least=edge), edge, most)
    except UnreadableImage:
        return ""
