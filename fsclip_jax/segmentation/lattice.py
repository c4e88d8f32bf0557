"""Windows over a picture of any size, and one lattice of patch features made of them.

A tower sees squares of one size, cut into ``grid x grid`` patches. Here a picture is scaled so that
a window of it has that size, and windows are laid over it so that their patches fall on the points
of one lattice; a point's feature is the mean over the windows that cover it.

- With ``grid > 1`` points are a patch apart, and windows half of their side.
- With ``grid = 1``, as in the bundled CLIP, a window is one point, and points are a quarter of a
  window apart.

Beyond its border the picture is mirrored.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fsclip_jax.typing import Array, Float

MOST_POINTS = 1024
"""Points along a side: more are not segmented, for what is kept of a point adds up."""


@dataclass(frozen=True)
class Lattice:
    """How windows are laid over a picture.

    Example:
        >>> Lattice(64, 32, 1).shape(256, 256), Lattice(224, 224, 14).shape(480, 640)
        ((16, 16), (30, 40))
    """

    window: int
    """Side of a window, in pixels of the picture."""
    size: int
    """Side of the square that the tower takes, in pixels."""
    grid: int
    """Patches along a side of that square."""

    @property
    def step(self) -> int:
        """Distance between neighbouring points, in scaled pixels."""
        return max(1, self.size // (4 if self.grid == 1 else self.grid))

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Return the number of points along both sides of a picture."""
        rows, columns = (
            max(1, round(side * self.size / (self.window * self.step))) for side in (height, width)
        )
        return rows, columns

    def starts(self, points: int) -> list[int]:
        """Return the first point of each window along a side; some are beyond the border."""
        stride = max(1, self.grid // 2)
        return list(range(-(self.grid // 2), points, stride))


def cut_windows(
    picture: Image.Image, lattice: Lattice
) -> Iterator[UInt8[np.ndarray, "size size 3"]]:
    """Cut the windows of a picture, row by row, as the tower takes them before normalisation.

    Example:
        >>> len(list(cut_windows(Image.new("RGB", (256, 256)), Lattice(64, 32, 1))))
        256
    """
    rows, columns = lattice.shape(picture.height, picture.width)
    scaled = picture.convert("RGB").resize(
        (columns * lattice.step, rows * lattice.step), Image.Resampling.BICUBIC
    )
    size = lattice.size
    pixels = np.pad(np.asarray(scaled), ((size, size), (size, size), (0, 0)), "symmetric")
    # A point lies in the middle of its step, and the first patch in the middle of its own side.
    shift = size + (lattice.step - size // lattice.grid) // 2
    tops, lefts = ([a * lattice.step + shift for a in lattice.starts(n)] for n in (rows, columns))
    for y, x in itertools.product(tops, lefts):
        yield pixels[y : y + size, x : x + size]


def stitch(
    patches: Iterable[Float[np.ndarray, "patches dim"]], lattice: Lattice, rows: int, columns: int
) -> Float[np.ndarray, "rows columns dim"]:
    """Average the patches of all windows of :func:`cut_windows` that fall on the same point.

    Example:
        >>> patches = np.arange(4.0)[:, None, None]
        >>> stitch(patches, Lattice(4, 4, 1), 2, 2)[..., 0].tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    grid = lattice.grid
    shape = rows + 2 * grid, columns + 2 * grid
    total, count = None, np.zeros((*shape, 1), np.float32)
    places = [(a + grid, b + grid) for a in lattice.starts(rows) for b in lattice.starts(columns)]
    for (top, left), one in zip(places, patches, strict=True):
        if total is None:
            total = np.zeros((*shape, one.shape[-1]), np.float32)
        spot = (slice(top, top + grid), slice(left, left + grid))
        total[spot] += one.reshape(grid, grid, -1)
        count[spot] += 1
    assert total is not None  # a picture has a window
    inside = (slice(grid, grid + rows), slice(grid, grid + columns))
    return total[inside] / count[inside]


def enlarge(
    values: Float[Array, "rows columns way"], height: int, width: int
) -> Float[Array, "height width way"]:
    """Interpolate between the points, bilinearly; beyond the outermost ones stay their values.

    Example:
        >>> enlarge(jax.numpy.array([[[0.0], [1.0]]]), 1, 4)[0, :, 0].tolist()
        [0.0, 0.25, 0.75, 1.0]
    """
    return jax.image.resize(values, (height, width, values.shape[-1]), "bilinear")
