"""Augmented views of an image, drawn from a seed, the image's key and the view's number."""

import hashlib
import math

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.pixels import to_rgb

AREA = (0.5, 1.0)
ASPECT = (3 / 4, 4 / 3)
_TRIES = 10


def describe_views(views: int, seed: int) -> dict[str, object]:
    """Say for the manifest how the views of a bank were made.

    Example:
        >>> describe_views(1, 0)
        {'view_0': 'centre crop'}
    """
    plain: dict[str, object] = {"view_0": "centre crop"}
    if views == 1:
        return plain
    others = {"area": list(AREA), "aspect": list(ASPECT), "flip": 0.5, "filter": "bicubic"}
    return plain | {"other_views": "random resized crop"} | others | {"seed": seed}


def view_generator(seed: int, key: str, view: int) -> np.random.Generator:
    """Return the generator of one view of one image.

    It depends on nothing but the arguments, so neither order, nor threads, nor a run that was
    interrupted and continued, change what a view looks like.

    Example:
        >>> draw = lambda view: view_generator(0, "a.png", view).random()
        >>> draw(1) == draw(1), draw(1) == draw(2)
        (True, False)
    """
    name = f"{seed}\0{view}\0{key}".encode("utf-8", "surrogateescape")
    digest = hashlib.sha256(name).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def random_box(
    generator: np.random.Generator, width: int, height: int
) -> tuple[int, int, int, int]:
    """Draw the rectangle of a random resized crop.

    The area is uniform in ``AREA`` times the whole, the logarithm of the aspect ratio uniform
    in that of ``ASPECT``. Rectangles that do not fit are drawn again; after ten tries the
    largest centred one whose aspect is in range is taken.

    Source: Szegedy et al., Going deeper with convolutions, CVPR 2015, section 6; area from
    0.5 up as in Zhang et al., Tip-Adapter, ECCV 2022.
    """
    for _ in range(_TRIES):
        area = width * height * generator.uniform(*AREA)
        aspect = math.exp(generator.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left = int(generator.integers(width - w + 1))
            top = int(generator.integers(height - h + 1))
            return left, top, left + w, top + h
    w = max(1, min(width, round(height * ASPECT[1])))
    h = max(1, min(height, round(width / ASPECT[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def random_view(
    image: Image.Image, size: int, generator: np.random.Generator
) -> UInt8[np.ndarray, "size size 3"]:
    """Cut a random rectangle, scale it to a square (bicubic) and mirror it half of the time."""
    box = random_box(generator, *image.size)
    # Cut first: resize(box=...) would let pixels from outside the rectangle bleed in.
    view = image.crop(box).resize((size, size), Image.Resampling.BICUBIC)
    pixels = np.asarray(view)
    return pixels[:, ::-1] if generator.random() < 0.5 else pixels


def views_of(
    image: Image.Image, preprocess: Preprocess, key: str, views: int, seed: int
) -> UInt8[np.ndarray, "views size size 3"]:
    """Make all views of an image: the plain centre crop, then the augmented ones."""
    image = to_rgb(image)
    plain = preprocess.crop(image)
    others = [
        random_view(image, len(plain), view_generator(seed, key, view)) for view in range(1, views)
    ]
    return np.stack([plain, *others])
