"""Put cut-outs on a backdrop, with what is visible of each known to the pixel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy import ndimage

from fsclip_jax.scenes.backdrop import draw_backdrop

SCENE_SIZE = 256
"""Side of a scene, in pixels."""

SIDES = (48, 96)
"""Least and largest longer side of an object, in pixels."""

TURN = 10.0
"""Objects are turned by at most so many degrees, either way. The bundled CLIP has seen upright
pictures only: at 20 degrees it knows two fifths fewer of the drawings of train and val."""

VISIBLE = 0.5
"""An object keeps at least this part of its pixels uncovered."""

_TRIES = 60


@dataclass(frozen=True, eq=False)
class Placed:
    """An object in a scene."""

    item: int
    """Its position in the list that was to be placed."""
    mask: Bool[np.ndarray, "size size"]
    """Where it is visible."""
    whole: int
    """Pixels that it would show if nothing covered it."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and the objects in it, from the one at the back to the one in front."""

    pixels: UInt8[np.ndarray, "size size 3"]
    objects: tuple[Placed, ...]


def vary(rng: np.random.Generator, art: Image.Image) -> Float[np.ndarray, "height width 4"]:
    """Vary size and angle of a cut-out (RGBA): colours times coverage, and coverage; 0 to 1."""
    side = rng.uniform(*SIDES)
    scale = side / max(art.size)
    width, height = (max(1, round(edge * scale)) for edge in art.size)
    # Multiplied by the coverage first: else the colour of what is not there bleeds in.
    picture = art.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS)
    picture = picture.convert("RGBA").rotate(
        rng.uniform(-TURN, TURN), Image.Resampling.BICUBIC, expand=True
    )
    x = np.asarray(picture, np.float64) / 255
    x = x[ndimage.find_objects((x[..., 3] > 0).astype(np.int8))[0]]
    return np.concatenate([x[..., :3] * x[..., 3:], x[..., 3:]], axis=-1)


def compose(rng: np.random.Generator, arts: Sequence[Image.Image], size: int = SCENE_SIZE) -> Scene:
    """Draw a scene: a backdrop, and objects (RGBA) one in front of the other.

    Objects lie wholly inside the picture. A place is taken if everything behind it stays visible
    to ``VISIBLE`` of its pixels; an object for which none is found is left out. ``size``, the side
    of the scene, is at least the diagonal of an object.

    Example:
        >>> art = Image.new("RGBA", (40, 30), "red")
        >>> scene = compose(np.random.default_rng(0), [art, art])
        >>> scene.pixels.shape, len(scene.objects)
        ((256, 256, 3), 2)
    """
    pixels = draw_backdrop(rng, size).astype(np.float64) / 255
    placed: list[Placed] = []
    for item, art in enumerate(arts):
        drawn = vary(rng, art)
        solid = drawn[..., 3] >= 0.5
        for _ in range(_TRIES):
            height, width = solid.shape
            top = int(rng.integers(0, size - height + 1))
            left = int(rng.integers(0, size - width + 1))
            window = (slice(top, top + height), slice(left, left + width))
            front = np.zeros((size, size), bool)
            front[window] = solid
            rest = [Placed(one.item, one.mask & ~front, one.whole) for one in placed]
            if all(one.mask.sum() >= VISIBLE * one.whole for one in rest):
                pixels[window] = drawn[..., :3] + (1 - drawn[..., 3:]) * pixels[window]
                placed = [*rest, Placed(item, front, int(solid.sum()))]
                break
    return Scene(np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8), tuple(placed))
