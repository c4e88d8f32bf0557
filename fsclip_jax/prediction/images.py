"""The pictures to classify: which they are, and their features as they are decoded."""

import dataclasses
import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeGuard, TypeVar

import numpy as np
from PIL import Image

from fsclip_jax.clip.load import Backbone
from fsclip_jax.data.pictures import FileLoader, as_read, decode_image, read_image
from fsclip_jax.data.source import ImageSource
from fsclip_jax.features.buckets import padded
from fsclip_jax.features.decode import Chunk, chunk_images, make_decoder, split_rows
from fsclip_jax.features.images import Encode, Encoded, fetch, image_encoder
from fsclip_jax.features.workers import decoded
from fsclip_jax.pixels import require_regular
from fsclip_jax.prediction.given import PictureLike
from fsclip_jax.typing import Float

_BATCH = 64  # each is written soon after it was read

Item = TypeVar("Item")


class EncodedPictures(NamedTuple):
    """What came of some consecutive pictures."""

    rows: tuple[int, ...]
    """Positions of those that could be read."""
    features: Float[np.ndarray, "n dim"]
    """Their unit features."""
    lost: tuple[tuple[int, str], ...]
    """Position of every other one, and what is wrong with it."""


def picture_source(
    keys: Sequence[str], class_names: Sequence[str] = ("?",), templates: Sequence[str] = ()
) -> ImageSource:
    """Make a source of pictures without labels, of which the keys are the paths."""
    count = len(keys)
    return ImageSource(
        spec="pictures",
        version="",
        class_names=tuple(class_names),
        labels=np.zeros(count, np.int32),
        keys=tuple(keys),
        splits=np.zeros(count, np.int8),
        templates=tuple(templates),
        load=FileLoader(Path(), tuple(keys), "upright"),
        draft=True,
    )


def _in_memory(picture: PictureLike) -> Image.Image:
    """Make RGB of what a picture file's reader would have returned."""
    if isinstance(picture, np.ndarray):
        flat = picture.ndim == 3 and picture.shape[2] == 1
        picture = Image.fromarray(picture[..., 0] if flat else picture)
    assert isinstance(picture, Image.Image)
    if not all(picture.size):
        raise ValueError(f"it has no pixels: its size is {picture.size}")
    return as_read(picture, "upright")


def _is_file(picture: PictureLike) -> TypeGuard[str | os.PathLike]:
    return isinstance(picture, str | os.PathLike)


def content_of(picture: PictureLike) -> bytes | None:
    """Return a sum of all that a picture's feature depends on; None if it cannot be read.

    A file and its bytes have one sum, and so have pixels however they are held.
    """
    try:
        if _is_file(picture):
            require_regular(picture)
            with Path(picture).open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        if isinstance(picture, bytes):
            return hashlib.sha256(picture).digest()
        image = _in_memory(picture)
    except Exception:  # whatever is wrong with it is told when it is decoded
        return None
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).digest()


@dataclass(frozen=True)
class _Loaded:
    """Hands out pictures that are in memory, the same as from their files; files are read."""

    pictures: Sequence[PictureLike]

    def __call__(self, index: int) -> Image.Image:
        picture = self.pictures[index]
        if isinstance(picture, bytes):
            return decode_image(picture, str(index), "upright")
        if _is_file(picture):
            return read_image(Path(picture), str(picture))
        return _in_memory(picture)


def loaded_source(pictures: Sequence[PictureLike]) -> ImageSource:
    """Make a source of pictures, of files or in memory."""
    if all(map(_is_file, pictures)):
        return picture_source([str(picture) for picture in pictures])
    source = picture_source([str(place) for place in range(len(pictures))])
    return dataclasses.replace(source, load=_Loaded(tuple(pictures)), draft=False)


def batch_of(backbone: Backbone) -> int:
    """Return how many pictures go through the tower together, those of the fit as well.

    So the tower is compiled once.
    """
    return min(_BATCH, chunk_images(backbone.preprocess, 1))


def encode_pictures(
    source: ImageSource, backbone: Backbone, workers: int | None = None
) -> Iterator[EncodedPictures]:
    """Decode and encode pictures in their order, some at a time.

    Features are rounded to float16 as a bank rounds them, so that a picture gets the features
    that it would have in a bank. Memory does not grow with their number. While one batch is looked
    at, the tower works at the next. For ``workers`` see ``features.workers.decoded``.
    """
    size = batch_of(backbone)
    chunks = list(split_rows(range(len(source.keys)), size))
    encode = image_encoder(backbone, kept=True)
    decoder = make_decoder(source, backbone.preprocess, 1, 0)

    def begun(stream: Iterable[Chunk]) -> Iterator[tuple[EncodedPictures, list[_Started]]]:
        nothing = np.zeros((0, backbone.embed_dim), np.float32)
        for rows, chunk in zip(chunks, stream, strict=True):
            lost = dict(chunk.lost)
            kept = tuple(row for place, row in enumerate(rows) if place not in lost)
            told = tuple((rows[i], why) for i, why in chunk.lost)
            started = _started(encode, chunk.pixels[:, 0], size)
            yield EncodedPictures(kept, nothing, told), started

    with closing(decoded(decoder, chunks, workers)) as stream:
        for found, started in one_late(begun(stream)):
            yield found._replace(features=_finished(started, backbone.embed_dim))


def one_late(items: Iterable[Item]) -> Iterator[Item]:
    """Yield each item once the next is there: what that has begun goes on meanwhile.

    Example:
        >>> def begun():
        ...     for number in range(2):
        ...         print("begun", number)
        ...         yield number
        >>> for number in one_late(begun()):
        ...     print("done", number)
        begun 0
        begun 1
        done 0
        done 1
    """
    held: deque[Item] = deque()
    for item in items:
        held.append(item)
        if len(held) > 1:
            yield held.popleft()
    yield from held


def encode_pixels(
    encode: Encode, pixels: np.ndarray, size: int, dim: int
) -> Float[np.ndarray, "n dim"]:
    """Encode pictures that are cut, in batches of one size, rounded as a bank rounds them."""
    return _finished(_started(encode, pixels, size), dim)


class _Started(NamedTuple):
    """A batch in the tower, and how many of its rows are pictures."""

    found: Encoded
    kept: int


def _started(encode: Encode, pixels: np.ndarray, size: int) -> list[_Started]:
    parts = [pixels[low : low + size] for low in range(0, len(pixels), size)]
    return [_Started(encode(padded(part, size)), len(part)) for part in parts]


def _finished(started: Sequence[_Started], dim: int) -> Float[np.ndarray, "n dim"]:
    found = [np.zeros((0, dim), np.float32)]
    found += [fetch(batch.found.features)[: batch.kept] for batch in started]
    rounded = np.concatenate(found).astype(np.float16).astype(np.float32)
    norms: np.ndarray = np.linalg.norm(rounded, axis=-1, keepdims=True)
    unit: np.ndarray = rounded / np.maximum(norms, 1e-12)
    return unit
