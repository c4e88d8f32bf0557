"""Scenes as files in COCO's format."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from fsclip_jax.data.masks import Record, encode_mask
from fsclip_jax.durable import write_file


def box_of(mask: Bool[np.ndarray, "height width"]) -> list[float]:
    """Return the tightest box around a mask that is not empty, ``[x, y, width, height]``.

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
    """Return COCO's annotation of one object, box and area of what is visible of it."""
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
