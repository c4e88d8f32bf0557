"""Masks of objects: their boxes, and the run lengths that COCO writes them as."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from fsclip_jax.errors import UserError

Record: TypeAlias = dict[str, Any]
"""A JSON object, as COCO's format has them."""


def box_of(mask: Bool[np.ndarray, "height width"]) -> list[float]:
    """Return the tightest box around a mask that is not empty, ``[x, y, width, height]``.

    Example:
        >>> box_of(np.array([[0, 0, 0], [0, 1, 1]], bool))
        [1.0, 1.0, 2.0, 1.0]
    """
    y, x = ndimage.find_objects(mask.astype(np.int8))[0]
    return [float(number) for number in (x.start, y.start, x.stop - x.start, y.stop - y.start)]


def encode_mask(mask: Bool[np.ndarray, "height width"]) -> Record:
    """Encode a mask as COCO's compressed run lengths: ``size`` (height, width) and ``counts``.

    Example:
        >>> encode_mask(np.eye(2, dtype=bool))
        {'size': [2, 2], 'counts': '0120'}
    """
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


def decode_mask(encoded: Mapping[str, Any]) -> Bool[np.ndarray, "height width"]:
    """Decode run lengths, of which pycocotools believes that they fill the size.

    Raises:
        UserError: the run lengths are none, or do not fill the size.

    Example:
        >>> decode_mask({"size": [2, 2], "counts": "0120"}).tolist()
        [[True, False], [False, True]]
    """
    height, width = (int(side) for side in encoded["size"])
    runs = _run_lengths(encoded["counts"])
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise UserError(f"the run lengths of a mask do not fill its {height} x {width} pixels")
    filled = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return filled.reshape(width, height).T


def _run_lengths(counts: str) -> list[int]:
    """Read COCO's text: five bits a letter, a sixth if more follow; the fourth on, differences."""
    runs: list[int] = []
    value = shift = 0
    for letter in counts:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise UserError(f"the run lengths of a mask hold {letter!r}, or a number without end")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return runs
