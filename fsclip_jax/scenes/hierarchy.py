"""Group the regions of a picture bottom up, most alike first.

Source: Uijlings et al., Selective Search for Object Recognition, IJCV 2013, sections 3.1 and 3.2.
"""

import heapq
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

COLOUR_BINS = 25
TEXTURE_BINS = 10
ORIENTATIONS = 8


def histograms(
    values: Float[np.ndarray, "height width channels"],
    labels: Int[np.ndarray, "height width"],
    bins: int,
) -> Float[np.ndarray, "regions values"]:
    """Histogram of every channel over every region, together of sum one.

    A channel is binned between its extremes.

    Example:
        >>> picture = np.array([[[0.0], [1.0]]])
        >>> histograms(picture, np.array([[0, 0]]), 2).tolist()
        [[0.5, 0.5]]
    """
    channels = values.shape[-1]
    regions = int(labels.max()) + 1
    low, high = values.min((0, 1)), values.max((0, 1))
    part = (values - low) / np.maximum(high - low, 1e-9)
    which = np.minimum((part * bins).astype(np.int64), bins - 1) + bins * np.arange(channels)
    place = labels[..., None].astype(np.int64) * bins * channels + which
    counts = np.bincount(place.ravel(), minlength=regions * bins * channels)
    counts = counts.reshape(regions, bins * channels).astype(np.float64)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def textures(
    image: Float[np.ndarray, "height width channels"],
) -> Float[np.ndarray, "height width values"]:
    """Return Gaussian derivatives (sigma 1) of every channel in eight directions."""
    down = ndimage.gaussian_filter(image, 1, order=(1, 0, 0), axes=None)
    across = ndimage.gaussian_filter(image, 1, order=(0, 1, 0), axes=None)
    angles = np.pi * np.arange(ORIENTATIONS) / ORIENTATIONS
    return np.concatenate([np.cos(a) * across + np.sin(a) * down for a in angles], axis=-1)


def neighbours(labels: Int[np.ndarray, "height width"]) -> Int[np.ndarray, "pairs 2"]:
    """Return the pairs of regions that share a border, the smaller label first.

    Example:
        >>> neighbours(np.array([[0, 1], [0, 2]])).tolist()
        [[0, 1], [0, 2], [1, 2]]
    """
    sides = [
        np.stack([one[one != other], other[one != other]], axis=1)
        for one, other in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:]))
    ]
    pairs = np.unique(np.sort(np.concatenate(sides), axis=1), axis=0)
    return pairs.reshape(-1, 2)


def boxes_of(labels: Int[np.ndarray, "height width"]) -> Int[np.ndarray, "regions 4"]:
    """Return the box of every region: left, top, right, bottom, the last two just outside."""
    found = ndimage.find_objects(labels + 1)
    return np.array([[s[1].start, s[0].start, s[1].stop, s[0].stop] for s in found], np.int64)


class _Regions(NamedTuple):
    """Room for all regions that will ever be; those that are not yet are zero."""

    look: Float[np.ndarray, "total values"]
    size: Float[np.ndarray, " total"]
    box: Int[np.ndarray, "total 4"]


def _first_regions(
    image: Float[np.ndarray, "height width channels"],
    labels: Int[np.ndarray, "height width"],
    texture: bool,
) -> _Regions:
    looks = [histograms(image, labels, COLOUR_BINS)]
    if texture:
        looks.append(histograms(textures(image), labels, TEXTURE_BINS))
    first = np.concatenate(looks, axis=1)
    start, total = len(first), 2 * len(first) - 1
    regions = _Regions(
        np.zeros((total, first.shape[1])), np.zeros(total), np.zeros((total, 4), np.int64)
    )
    regions.look[:start] = first
    regions.size[:start] = np.bincount(labels.ravel(), minlength=start)
    regions.box[:start] = boxes_of(labels)
    return regions


def _merge(regions: _Regions, i: int, j: int, new: int) -> None:
    look, size, box = regions
    size[new] = size[i] + size[j]
    look[new] = (size[i] * look[i] + size[j] * look[j]) / size[new]
    box[new, :2] = np.minimum(box[i, :2], box[j, :2])
    box[new, 2:] = np.maximum(box[i, 2:], box[j, 2:])


def _likeness(
    regions: _Regions, pairs: Int[np.ndarray, "pairs 2"], area: int
) -> Float[np.ndarray, " pairs"]:
    look, _, box = regions
    i, j = pairs.T
    shared = np.minimum(look[i], look[j]).sum(1)
    low = np.minimum(box[i, :2], box[j, :2])
    high = np.maximum(box[i, 2:], box[j, 2:])
    # size + fill: the sizes of the parts cancel.
    return shared + 2 - (high - low).prod(1) / area


def group(
    image: Float[np.ndarray, "height width channels"],
    labels: Int[np.ndarray, "height width"],
    *,
    texture: bool = True,
) -> Int[np.ndarray, "boxes 4"]:
    """Merge the two neighbours that are most alike until one region is left.

    The likeness of regions ``i`` and ``j`` of an image of ``A`` pixels is the sum of::

        colour, texture:  sum_k min(h_i[k], h_j[k])
        size:             1 - (size_i + size_j) / A
        fill:             1 - (size(box_ij) - size_i - size_j) / A

    A merged region's histogram is the mean of its parts', weighted by their sizes.

    Args:
        labels: region of every pixel, from 0.
        texture: compare textures, and not colours alone.

    Returns:
        The boxes of all regions, in the order in which these came to be: the first are those of
        ``labels``, the last is the whole picture.
    """
    regions = _first_regions(image, labels, texture)
    new, total = int(labels.max()) + 1, len(regions.size)
    touching: list[set[int]] = [set() for _ in range(total)]
    heap: list[tuple[float, int, int]] = []

    def add(pairs: Int[np.ndarray, "pairs 2"]) -> None:
        scores = _likeness(regions, pairs, labels.size).tolist()
        for score, (i, j) in zip(scores, pairs.tolist(), strict=True):
            touching[i].add(j)
            touching[j].add(i)
            heapq.heappush(heap, (-score, i, j))

    add(neighbours(labels))
    gone = np.zeros(total, bool)
    while heap:
        _, i, j = heapq.heappop(heap)
        if gone[i] or gone[j]:
            continue
        gone[[i, j]] = True
        _merge(regions, i, j, new)
        around = sorted((touching[i] | touching[j]) - {i, j})
        for other in around:
            touching[other] -= {i, j}
        add(np.array([(other, new) for other in around], np.int64).reshape(-1, 2))
        new += 1
    return regions.box[:new]
