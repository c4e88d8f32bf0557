"""Parts of a picture, and what a lattice of points says about each of them."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage

from fsclip_jax.segmentation.lattice import enlarge

SCALE = 100.0
"""The ``k`` of Felzenszwalb and Huttenlocher: larger segments with larger values."""

MOST_PIXELS = 2**21
"""A picture of more is not segmented: what is kept of a pixel adds up to some 900 bytes."""

MIN_SEGMENT = 60
"""Pixels of the smallest segment."""


def cut_segments(pixels: UInt8[np.ndarray, "height width 3"]) -> Int[np.ndarray, "height width"]:
    """Cut a picture along its own edges, with no knowledge of what is in it.

    Segments are numbered from 0.

    Example:
        >>> page = np.zeros((32, 32, 3), np.uint8)
        >>> page[:, 16:] = 255
        >>> int(cut_segments(page).max())
        1

    Source: Felzenszwalb and Huttenlocher, Efficient Graph-Based Image Segmentation, IJCV 2004.
    """
    from skimage.color import rgb2lab
    from skimage.segmentation import felzenszwalb

    image = rgb2lab(pixels) / 100
    return felzenszwalb(image, scale=SCALE, sigma=0.8, min_size=MIN_SEGMENT).astype(np.int32)


def point_weights(points: int, side: int) -> Float[np.ndarray, "side points"]:
    """Return the weight of every point in every pixel along a side, as ``enlarge`` has them.

    Example:
        >>> point_weights(2, 4).tolist()
        [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    return np.asarray(enlarge(jnp.eye(points)[:, None], side, 1)[:, 0])


def part_weights(
    labels: Int[np.ndarray, "height width"], rows: int, columns: int
) -> Float[np.ndarray, "parts points"]:
    """Weigh the points of a lattice for every part of a picture.

    The mean of interpolated values over the pixels of a part is a mean of the values at the points;
    these are its weights: ``a_p = sum_{pixels (y, x) of the part} u_y v_x / size``, with ``u`` and
    ``v`` the weights of the interpolation along each side. They add up to 1. Labels count from 0,
    with no number left out; -1 belongs to no part.

    Example:
        >>> part_weights(np.array([[0, 0, 1, 1]]), 1, 2).tolist()
        [[0.875, 0.125], [0.125, 0.875]]
    """
    height, width = labels.shape
    down, across = point_weights(rows, height), point_weights(columns, width)
    weights = []
    for part, (ys, xs) in enumerate(ndimage.find_objects(labels + 1)):
        mask = (labels[ys, xs] == part).astype(np.float32)
        weights.append((down[ys].T @ mask @ across[xs]).ravel() / mask.sum())
    return np.stack(weights)


def mask_weights(
    mask: Bool[np.ndarray, "height width"], rows: int, columns: int
) -> Float[np.ndarray, "points"]:
    """Weigh the points of a lattice for one object; see :func:`part_weights`."""
    return part_weights(mask.astype(np.int32) - 1, rows, columns)[0]


def count_labels(
    labels: Int[np.ndarray, "height width"],
    truth: Int[np.ndarray, "height width"],
    classes: int,
) -> Int[np.ndarray, "parts classes"]:
    """Count the pixels of every class in every part, both numbered from 0.

    Example:
        >>> count_labels(np.array([[0, 0, 1]]), np.array([[0, 1, 1]]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    parts = int(labels.max()) + 1
    place = labels.astype(np.int64) * classes + truth
    return np.bincount(place.ravel(), minlength=parts * classes).reshape(parts, classes)
