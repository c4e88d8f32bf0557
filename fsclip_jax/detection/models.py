"""What finds regions and describes them: a CLIP on given proposals, or an OWL-ViT on its own."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax.nnx import GraphDef
from PIL import Image

from fsclip_jax.clip.load import Backbone
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.data.boxes import overlaps
from fsclip_jax.data.coco_files import Picture, Proposals
from fsclip_jax.data.templates import BARE, PHOTO, prompts
from fsclip_jax.detection.crops import SCALES, open_picture, region_features, usable
from fsclip_jax.detection.owlvit import Regions, find_regions, unit
from fsclip_jax.detection.owlvit_load import Detector
from fsclip_jax.detection.owlvit_text import TEMPLATES, encode_queries
from fsclip_jax.detection.scoring import Found
from fsclip_jax.features.buckets import padded
from fsclip_jax.features.identity import DEFAULT_BACKBONE
from fsclip_jax.features.text import class_text_features
from fsclip_jax.typing import Float, Params

Boxed: TypeAlias = tuple[Image.Image, Float[np.ndarray, "region 4"]]
"""A picture and boxes in it: left, top, width, height."""

OWL_SCALE = 100.0
"""Inverse temperature that methods are given with an OWL-ViT, whose own belongs to its regions."""
_OWL_BATCH = 4


@dataclass(frozen=True)
class Model:
    """What a detector does, whichever it is."""

    id: str
    """The spec it was loaded by."""
    sha256: str
    """Of its weights."""
    dim: int
    """Width of the features."""
    logit_scale: float
    """Inverse temperature that methods are given."""
    text: Callable[[Sequence[str]], Float[np.ndarray, "way dim"]]
    """Class names to unit text features."""
    describe: Callable[[Iterable[Boxed]], Iterator[Float[np.ndarray, "region dim"]]]
    """Pictures with boxes to unit features of the boxes, picture by picture."""
    regions: Callable[[Path, Sequence[Picture], Mapping[int, Proposals]], Iterator[Found]]
    """Pictures of a folder to their regions, picture by picture."""
    proposes: bool
    """Whether it finds regions on its own; else proposals are given."""


def clip_model(backbone: Backbone, scales: Sequence[float] = SCALES) -> Model:
    """Classify given proposals by CLIP features of their crops, as ViLD does before training."""
    templates = BARE if backbone.id == DEFAULT_BACKBONE else PHOTO
    backbone.reader()  # says so where there is no text

    def text(names: Sequence[str]) -> Float[np.ndarray, "way dim"]:
        return class_text_features(backbone, [prompts(name, templates) for name in names]).text

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
    """Find regions by an OWL-ViT; an annotated box is described by the region that fits it best."""

    def text(names: Sequence[str]) -> Float[np.ndarray, "way dim"]:
        return encode_queries(detector, [prompts(name, TEMPLATES)[0] for name in names])

    return Model(
        f"owlvit:{detector.id}",
        detector.sha256,
        detector.config.embed_dim,
        OWL_SCALE,
        text,
        partial(_owl_describe, detector),
        partial(_owl_regions, detector),
        proposes=True,
    )


@partial(jax.jit, static_argnums=(0, 1))
def _look(graphdef: GraphDef, preprocess: Preprocess, state: Params, pixels: jax.Array) -> Regions:
    found = find_regions(graphdef, state, preprocess.normalize(pixels))
    return found._replace(embeds=unit(found.embeds))


def _owl_found(
    detector: Detector, images: Iterable[Image.Image]
) -> Iterator[tuple[np.ndarray, ...]]:
    """Unit embeddings, boxes in pixels, shifts and scales of the regions of every image."""
    stream = iter(images)
    while batch := list(itertools.islice(stream, _OWL_BATCH)):
        pixels = padded(np.stack([detector.preprocess.crop(one) for one in batch]), _OWL_BATCH)
        found = _look(detector.graphdef, detector.preprocess, detector.state, jnp.asarray(pixels))
        embeds, boxes, shift, scale = (np.asarray(part) for part in found)
        for i, image in enumerate(batch):
            yield embeds[i], in_pixels(boxes[i], image.size), shift[i], scale[i]


def _owl_describe(
    detector: Detector, pictures: Iterable[Boxed]
) -> Iterator[Float[np.ndarray, "region dim"]]:
    wanted: deque[np.ndarray] = deque()

    def images() -> Iterator[Image.Image]:
        for image, boxes in pictures:
            wanted.append(boxes)
            yield image

    for embeds, boxes, _, _ in _owl_found(detector, images()):
        yield embeds[best_regions(boxes, wanted.popleft())]


def _owl_regions(
    detector: Detector, folder: Path, pictures: Sequence[Picture], _: Mapping[int, Proposals]
) -> Iterator[Found]:
    opened = (open_picture(folder, picture) for picture in pictures)
    for picture, found in zip(pictures, _owl_found(detector, opened), strict=True):
        embeds, boxes, shift, scale = found
        yield Found(picture.id, boxes, embeds, None, shift, scale)


def in_pixels(
    boxes: Float[np.ndarray, "region 4"], size: tuple[int, int]
) -> Float[np.ndarray, "region 4"]:
    """Turn boxes in parts of an image into boxes within it, in pixels.

    From centre x, centre y, width, height to left, top, width, height.

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
    """Return for every box the place of the region that overlaps it most, or else is nearest.

    Source: after the image-conditioned queries of Minderer et al., Simple Open-Vocabulary Object
    Detection with Vision Transformers, ECCV 2022, which also start from the overlap.
    """
    overlap = overlaps(boxes, regions)
    ours, theirs = (some[:, :2] + some[:, 2:] / 2 for some in (boxes, regions))
    far = np.linalg.norm(ours[:, None].astype(np.float64) - theirs[None], axis=-1)
    return np.where(overlap.any(1), overlap.argmax(1), far.argmin(1))
