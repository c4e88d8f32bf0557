"""Fit a table of positions to another grid of patches."""

import math

import jax
import numpy as np

from fsclip_jax.typing import Float

_MOST_TIMES = 8


def resize_positions(
    table: Float[np.ndarray, "given width"], grid: int, extra: int
) -> Float[np.ndarray, "fitted width"] | None:
    """Resize a square grid of position embeddings as open_clip does: bicubic, antialiased.

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
    patches = jax.image.resize(patches, (grid, grid, width), "cubic", antialias=True)
    return np.concatenate([table[:extra], np.reshape(patches, (-1, width))])
