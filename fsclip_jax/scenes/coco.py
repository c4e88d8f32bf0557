"""Scenes as files in COCO's format."""

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from fsclip_jax.features.durable import write_file

Record = dict[str, Any]
"""A JSON object, as COCO's format has them."""


def encode_mask(mask: Bool[np.ndarray, "height width"]) -> Record:
    """Encode a mask as COCO's compressed run lengths.

    Args:
        mask: true where the object is.

    Returns:
        ``size`` (height, width) and ``counts``, text.

    Example:
        >>> encode_mask(np.eye(2, dtype=bool))
        {'size': [2, 2], 'counts': '0120'}
    """
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


def decode_mask(encoded: Mapping[str, Any]) -> Bool[np.ndarray, "height width"]:
    """Decode what :func:`encode_mask` made.

    Args:
        encoded: ``size`` and ``counts``.

    Returns:
        The mask.
    """
    from pycocotools import mask as coco_mask

    with warnings.catch_warnings():  # pycocotools 2.0.11 asks for arrays as NumPy 1 did
        warnings.simplefilter("ignore", DeprecationWarning)
        return coco_mask.decode(dict(encoded)).astype(bool)


def box_of(mask: Bool[np.ndarray, "height width"]) -> list[float]:
    """Return the tightest box around a mask, ``[x, y, width, height]``.

    Args:
        mask: true where the object is; not all false.

    Returns:
        The box, in pixels.

    Example:
        >>> box_of(np.array([[0, 0, 0], [0, 1, 1]], bool))
        [1.0, 1.0, 2.0, 1.0]
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(columns[0]), int(rows[0])
    return [float(x) for x in (left, top, columns[-1] + 1 - left, rows[-1] + 1 - top)]


def annotation(
    number: int, image: int, category: int, mask: Bool[np.ndarray, "height width"], **more: Any
) -> Record:
    """Return the record of one object.

    Args:
        number: id of the annotation.
        image: id of the picture.
        category: id of the class.
        mask: where the object is visible; box and area are taken from it.
        **more: further fields.

    Returns:
        A COCO annotation.
    """
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": box_of(mask),
        "area": float(mask.sum()),
        "segmentation": encode_mask(mask),
        "iscrowd": 0,
        **more,
    }


def write_json(path: Path, value: Any) -> None:
    """Write JSON; the file is whole or absent."""
    write_file(path, json.dumps(value, separators=(",", ":")).encode() + b"\n")


def write_png(
    path: Path, pixels: UInt8[np.ndarray, "..."], palette: Sequence[int] | None = None
) -> None:
    """Write a picture, or with a palette a picture of class indices; whole or absent."""
    image = Image.fromarray(pixels)
    if palette is not None:
        image = Image.fromarray(pixels, "P")
        image.putpalette(list(palette))
    stream = io.BytesIO()
    image.save(stream, "png")
    write_file(path, stream.getvalue())
