"""Masks of objects: their boxes, and the run lengths that COCO writes them as."""

import warnings
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

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
    """Decode what :func:`encode_mask` made."""
    from pycocotools import mask as coco_mask

    with warnings.catch_warnings():  # pycocotools 2.0.11 asks for arrays as NumPy 1 did
        warnings.simplefilter("ignore", DeprecationWarning)
        return coco_mask.decode(dict(encoded)).astype(bool)
