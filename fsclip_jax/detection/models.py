"""What finds regions and describes them: a CLIP on given proposals, or an OWL-ViT on its own."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from fsclip_jax.clip.load import Backbone
from fsclip_jax.data.boxes import overlaps
from fsclip_jax.data.coco_files import Picture, Proposals
from fsclip_jax.data.templates import BARE, PHOTO, prompts
from fsclip_jax.detection.crops import SCALES, open_picture, region_features, usable
from fsclip_jax.detection.owlvit import find_regions, unit
from fsclip_jax.detection.owlvit_load import Detector
from fsclip_jax.detection.owlvit_text import TEMPLATES, encode_queries
from fsclip_jax.detection.scoring import Found
from fsclip_jax.features.buckets import padded
from fsclip_jax.features.identity import DEFAULT_BACKBONE
from fsclip_jax.features.text import class_text_features
from fsclip_jax.typing import Float

Boxed: TypeAlias = tuple[Image.Image, Float[np.ndarray, "region 4"]]
"""A picture and boxes in it: left, top, width, height."""

OWL_SCALE = 100.0
"""Inverse temperature that methods are given with an OWL-ViT, whose own belongs to its regions."""
_OWL_BATCH = 4


@dataclass(frozen=True)
class Model:
    """What a detector does, whichever it is.

    Attributes:
        id: the spec it was loaded by.
        sha256: of its weights.
        dim: width of the features.
        logit_scale: inverse temperature that methods are given.
        text: class names to unit text features.
        describe: pictures with boxes to unit features of the boxes, picture by picture.
        regions: pictures of a folder to their regions, picture by picture.
        proposes: whether it finds regions on its own; else proposals are given.
    """

    id: str
    sha256: str
    dim: int
    logit_scale: float
    text: Callable[[Sequence[str]], Float[np.ndarray, "way dim"]]
    describe: Callable[[Iterable[Boxed]], Iterator[Float[np.ndarray, "region dim"]]]
    regions: Callable[[Path, Sequence[Picture], Mapping[int, Proposals]], Iterator[Found]]
    proposes: bool


def clip_model(backbone: Backbone, scales: Sequence[float] = SCALES) -> Model:
    """Classify given proposals by CLIP features of their crops, as ViLD does before training.

    Args:
        backbone: any CLIP.
        scales: sides of the crops, in parts of the box's.

    Returns:
        The model.
    """
    templates = BARE if backbone.id == DEFAULT_BACKBONE else PHOTO

    def text(names: Sequence[str]) -> Float[np.ndarray, "way dim"]:
        found = class_text_features(backbone, [prompts(name, templates) for name in names])
        return found[0]

    def describe(pictures: Iterable[Boxed]) -> Iterator[Float[np.ndarray, "region dim"]]:
        return region_features(backbone, pictures, scales=scales)

    def regions(
        folder: Path, pictures: Sequence[Picture], proposals: Mapping[int, Proposals]
    ) -> Iterator[Found]:
        opened = ((open_picture(folder, each), proposals[each.id].boxes) for each in pictures)
        for picture, features in zip(pictures, describe(opened), strict=True):
            boxes, scores = proposals[picture.id]
            yield Found(picture.id, boxes, features, scores)

    return Model(
        backbone.id,
        backbone.sha256,
        backbone.embed_dim,
        backbone.logit_scale,
        text,
        describe,
        regions,
        proposes=False,
    )


def owlvit_model(detector: Detector) -> Model:
    """Find regions by an OWL-ViT; an annotated box is described by the region that fits it best.

    Args:
        detector: the OWL-ViT.

    Returns:
        The model.
    """

    @jax.jit
    def run(state: object, pixels: jax.Array) -> tuple[jax.Array, ...]:
        found = find_regions(detector.graphdef, state, detector.preprocess.normalize(pixels))
        return unit(found.embeds), found.boxes, found.shift, found.scale

    def found_in(images: Iterable[Image.Image]) -> Iterator[tuple[np.ndarray, ...]]:
        waiting: list[Image.Image] = []

        def flush() -> Iterator[tuple[np.ndarray, ...]]:
            if not waiting:
                return
            pixels = np.stack([detector.preprocess.crop(image) for image in waiting])
            out = run(detector.state, jnp.asarray(padded(pixels, _OWL_BATCH)))
            embeds, boxes, shift, scale = (np.asarray(part) for part in out)
            for i, image in enumerate(waiting):
                yield embeds[i], in_pixels(boxes[i], image.size), shift[i], scale[i]
            waiting.clear()

        for image in images:
            waiting.append(image)
            if len(waiting) == _OWL_BATCH:
                yield from flush()
        yield from flush()

    def text(names: Sequence[str]) -> Float[np.ndarray, "way dim"]:
        return encode_queries(detector, [prompts(name, TEMPLATES)[0] for name in names])

    def describe(pictures: Iterable[Boxed]) -> Iterator[Float[np.ndarray, "region dim"]]:
        asked: list[np.ndarray] = []

        def images() -> Iterator[Image.Image]:
            for image, boxes in pictures:
                asked.append(boxes)
                yield image

        for embeds, boxes, _, _ in found_in(images()):
            yield embeds[best_regions(boxes, asked.pop(0))]

    def regions(
        folder: Path, pictures: Sequence[Picture], proposals: Mapping[int, Proposals]
    ) -> Iterator[Found]:
        del proposals
        opened = (open_picture(folder, picture) for picture in pictures)
        for picture, found in zip(pictures, found_in(opened), strict=True):
            embeds, boxes, shift, scale = found
            yield Found(picture.id, boxes, embeds, None, shift, scale)

    return Model(
        f"owlvit:{detector.id}",
        detector.sha256,
        detector.config.embed_dim,
        OWL_SCALE,
        text,
        describe,
        regions,
        proposes=True,
    )


def in_pixels(
    boxes: Float[np.ndarray, "region 4"], size: tuple[int, int]
) -> Float[np.ndarray, "region 4"]:
    """Turn boxes in parts of an image into boxes within it, in pixels.

    Args:
        boxes: centre x, centre y, width, height, in parts of the image.
        size: width and height of the image.

    Returns:
        Left, top, width, height.

    Example:
        >>> in_pixels(np.array([[0.5, 0.5, 0.2, 0.4]]), (10, 20)).round(3).tolist()
        [[4.0, 6.0, 2.0, 8.0]]
    """
    whole = np.tile(np.array(size, np.float64), 2)
    placed = boxes * whole
    placed[:, :2] -= placed[:, 2:] / 2
    corners = usable(placed, *size)
    corners[:, 2:] -= corners[:, :2]
    return corners


def best_regions(
    regions: Float[np.ndarray, "region 4"], boxes: Float[np.ndarray, "n 4"]
) -> np.ndarray:
    """Return for every box the region that overlaps it most; where none does, the nearest.

    Args:
        regions: left, top, width, height.
        boxes: the same.

    Returns:
        Places among the regions, one a box.

    Source: after the image-conditioned queries of Minderer et al., Simple Open-Vocabulary Object
    Detection with Vision Transformers, ECCV 2022, which also start from the overlap.
    """
    overlap = overlaps(boxes, regions)
    middles = (some[:, :2] + some[:, 2:] / 2 for some in (boxes, regions))
    ours, theirs = middles
    far = np.linalg.norm(ours[:, None].astype(np.float64) - theirs[None], axis=-1)
    return np.where(overlap.any(1), overlap.argmax(1), far.argmin(1))
