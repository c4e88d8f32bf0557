"""Fit a table of positions to another grid of patches."""

import math

import jax
import numpy as np

from fsclip_jax.typing import Float

_MOST_TIMES = 8


def resize_positions(
    table: Float[np.ndarray, "given width"], grid: int, extra: int, *, antialias: bool = True
) -> Float[np.ndarray, "fitted width"] | None:
    """Resize a square grid of position embeddings, bicubic: as open_clip does it, antialiased.

    The first ``extra`` positions, a class token's, stay as they are. None if there is nothing to
    do, if the rest is no square, or if the grid is to have over eight times as long sides: memory
    follows the file.

    Example:
        >>> resize_positions(np.ones((1 + 49, 8)), 24, 1).shape
        (577, 8)
    """
    given = math.isqrt(max(len(table) - extra, 0))
    if given == grid or not 1 <= grid <= _MOST_TIMES * given or given**2 != len(table) - extra:
        return None
    table, width = table.astype(np.float32), table.shape[-1]
    patches = table[extra:].reshape(given, given, width)
    if antialias:
        patches = np.asarray(jax.image.resize(patches, (grid, grid, width), "cubic"))
    else:
        one = _cubic(given, grid)
        patches = np.einsum("ai,bj,ijw->abw", one, one, patches).astype(np.float32)
    return np.concatenate([table[:extra], patches.reshape(-1, width)])


def _cubic(given: int, grid: int) -> Float[np.ndarray, "grid given"]:
    """Weights by which PyTorch's bicubic interpolation reads a line, without antialiasing.

    Its kernel has -0.75 where antialiased ones have -0.5; places beyond the ends are the ends.
    """
    at = (np.arange(grid) + 0.5) * given / grid - 0.5
    weights = np.zeros((grid, given))
    for tap in range(-1, 3):
        place = np.floor(at) + tap
        x, a = np.abs(at - place), -0.75
        near = ((a + 2) * x - (a + 3)) * x**2 + 1
        far = a * (((x - 5) * x + 8) * x - 4)
        row = np.clip(place, 0, given - 1).astype(int)
        np.add.at(weights, (np.arange(grid), row), np.where(x <= 1, near, far))
    return weights
