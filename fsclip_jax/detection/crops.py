"""CLIP features of regions: every box is cut out, twice, and encoded as an image of its own."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fsclip_jax.clip.load import Backbone
from fsclip_jax.data.coco_files import Picture
from fsclip_jax.data.pictures import read_image
from fsclip_jax.data.source import UnreadableImage
from fsclip_jax.errors import UserError
from fsclip_jax.features.buckets import bucket_size, padded
from fsclip_jax.features.images import fetch, image_encoder
from fsclip_jax.pixels import FILTERS
from fsclip_jax.typing import Float, UInt8

SCALES = (1.0, 1.5)
"""Sides of the crops of a box, in parts of its own: the box, and the box with its surroundings."""
_BATCH = 128  # crops that go through the tower together


def read_picture(folder: Path, picture: Picture) -> Image.Image:
    """Read a picture of a data set, mode RGB, as it is stored: its boxes know nothing of EXIF.

    Raises:
        UnreadableImage: it is missing, broken, or of another size than the annotations say.
    """
    image = read_image(folder / picture.file_name, picture.file_name, "clip")
    if image.size != (picture.width, picture.height):
        raise UnreadableImage(
            picture.file_name,
            f"it has {image.width} x {image.height} pixels, its annotations say "
            f"{picture.width} x {picture.height}",
        )
    return image


def open_picture(folder: Path, picture: Picture) -> Image.Image:
    """Read a picture that could be read when the run began.

    Raises:
        UserError: it no longer can.
    """
    try:
        return read_picture(folder, picture)
    except UnreadableImage as error:
        raise UserError(
            f"{folder / picture.file_name} cannot be read any more: {error.reason}; "
            "run the same command again, which leaves it out"
        ) from error


def usable(
    boxes: Float[np.ndarray, "region 4"], width: int, height: int
) -> Float[np.ndarray, "region 4"]:
    """Cut boxes off at the border of the image, at least one pixel being left of each side.

    From left, top, width, height to left, top, right, bottom.

    Example:
        >>> usable(np.array([[-5.0, 2, 10, 4]]), 20, 20).tolist()
        [[0.0, 2.0, 5.0, 6.0]]
    """
    size = np.array([width, height], np.float64)
    low = np.clip(boxes[:, :2].astype(np.float64), 0, np.maximum(size - 1, 0))
    high = np.clip(boxes[:, :2].astype(np.float64) + boxes[:, 2:], low + 1, size)
    return np.concatenate([low, high], axis=1)


def cut_boxes(
    image: Image.Image,
    boxes: Float[np.ndarray, "region 4"],
    backbone: Backbone,
    scales: Sequence[float] = SCALES,
) -> Iterator[UInt8[np.ndarray, "size size 3"]]:
    """Cut every box out of a picture, at every scale, resized to the square the tower takes.

    A crop is ``scale`` times as wide and high as its box, around its centre, within the picture.
    All scales of a box come before the next box.
    """
    side, how = backbone.preprocess.size, FILTERS[backbone.preprocess.resample]
    for box in boxes.astype(np.float64):
        for scale in scales:
            size = box[2:] * scale
            wide = np.concatenate([box[:2] + box[2:] / 2 - size / 2, size])[None]
            low_high = usable(wide, *image.size)[0]
            yield np.asarray(image.resize((side, side), how, box=tuple(low_high.tolist())))


def region_features(
    backbone: Backbone,
    pictures: Iterable[tuple[Image.Image, Float[np.ndarray, "region 4"]]],
    *,
    scales: Sequence[float] = SCALES,
    batch: int = _BATCH,
) -> Iterator[Float[np.ndarray, "region dim"]]:
    r"""Encode the boxes of pictures to unit features, picture after picture.

    .. math:: f_i = \mathrm{norm} \sum_s \mathrm{norm}\, E(\mathrm{crop}(x, s\, b_i))

    over the scales 1 and 1.5. Crops of several pictures share a batch, which always has the same
    size, so the tower is compiled once; no more than a batch of crops is in memory.

    Source: Gu et al., Open-Vocabulary Object Detection via Vision and Language Knowledge
    Distillation (ViLD), ICLR 2022, section 3.2.
    """
    encode = image_encoder(backbone, compute="auto")
    size = bucket_size(batch, batch)
    side = backbone.preprocess.size
    buffer = np.zeros((size, side, side, 3), np.uint8)
    waiting: deque[int] = deque()  # crops of each picture that was not given out yet
    done = np.zeros((0, backbone.embed_dim), np.float32)
    filled = 0

    def finished() -> Iterator[Float[np.ndarray, "region dim"]]:
        nonlocal done
        while waiting and waiting[0] <= len(done):
            count = waiting.popleft()
            mine, done = done[:count], done[count:]
            total = mine.reshape(-1, len(scales), mine.shape[1]).sum(1)
            yield total / np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-12)

    for image, boxes in pictures:
        for crop in cut_boxes(image, boxes, backbone, scales):
            buffer[filled] = crop
            filled += 1
            if filled == size:
                # A copy: the next crops may be written before these are on the device.
                found = fetch(encode(buffer.copy()).features)
                done, filled = np.concatenate([done, found]), 0
        waiting.append(len(boxes) * len(scales))
        yield from finished()
    if filled:
        found = fetch(encode(padded(buffer[:filled], size)).features)
        done = np.concatenate([done, found[:filled]])
    yield from finished()
