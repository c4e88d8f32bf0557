"""Scenes turned into numbers, once for all methods."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int

from fsclip_jax.clip.load import Backbone
from fsclip_jax.data.masks import decode_mask
from fsclip_jax.interim import Interim
from fsclip_jax.segmentation.annotated import Annotated
from fsclip_jax.segmentation.dense import dense_features, lattice_of
from fsclip_jax.segmentation.parts import count_labels, cut_segments, mask_weights, part_weights

RUN = 8
"""Pictures that are encoded, or cut, between two parts of a run that are kept."""


@dataclass(frozen=True, eq=False)
class Points:
    """The lattice points of all pictures of a split, for one size of window."""

    features: Float[np.ndarray, "n dim"]
    """Unit features, all pictures one after the other."""
    labels: Int[np.ndarray, "n"]
    """Class at the middle of every point; 0 is background."""
    starts: Int[np.ndarray, "pictures_and_end"]
    """First point of every picture, and the end."""
    shapes: tuple[tuple[int, int], ...]
    """Rows and columns of every picture."""


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of all pictures of a split."""

    counts: Int[np.ndarray, "parts classes"]
    """Pixels of every class in every part; class 0 is background."""
    weights: tuple[tuple[Float[np.ndarray, "_ _"], ...], ...]
    """For every size of window, and picture, how the points make up the parts."""

    def average(
        self, points: Sequence[Points], values: Sequence[Float[np.ndarray, "n values"]]
    ) -> Float[np.ndarray, "parts values"]:
        """Average values at points over the parts, and over the sizes of windows."""
        scales: list[np.ndarray] = []
        for place, given, weights in zip(points, values, self.weights, strict=True):
            pieces = zip(weights, place.starts[:-1], place.starts[1:], strict=True)
            scales.append(np.concatenate([w @ given[low:high] for w, low, high in pieces]))
        return np.mean(scales, axis=0)


def encode_points(backbone: Backbone, split: Annotated, window: int, interim: Interim) -> Points:
    """Encode all pictures of a split by windows of a side in pixels, some a part."""

    def encode(indices: range) -> list[np.ndarray]:
        pictures = (split.picture(index) for index in indices)
        return list(dense_features(backbone, pictures, lattice_of(backbone, window)))

    maps = list(_in_runs(split, f"points of {window} pixels", encode, interim))
    labels = []
    for index, one in enumerate(maps):
        truth = split.truth(index)
        ys, xs = (
            ((np.arange(points) + 0.5) * side / points).astype(int)
            for points, side in zip(one.shape[:2], truth.shape, strict=True)
        )
        labels.append(truth[np.ix_(ys, xs)].ravel())
    starts = np.cumsum([0, *(len(some) for some in labels)])
    features = np.concatenate([one.reshape(-1, one.shape[-1]) for one in maps])
    shapes = tuple((one.shape[0], one.shape[1]) for one in maps)
    return Points(features, np.concatenate(labels), starts, shapes)


def cut_parts(
    split: Annotated, points: Sequence[Points], segments: bool, interim: Interim
) -> Parts:
    """Cut all pictures of a split into parts, along edges or else of 4 x 4 pixels."""

    def cut(indices: range) -> list[np.ndarray]:
        return [cut_segments(np.asarray(split.picture(index))) for index in indices]

    counts, weights = [], []
    cuts = _in_runs(split, "segments", cut, interim) if segments else None
    for index in range(len(split.images)):
        truth = split.truth(index)
        labels = _squares(*truth.shape) if cuts is None else next(cuts)
        counts.append(count_labels(labels, truth, len(split.classes.ids) + 1))
        weights.append([part_weights(labels, *place.shapes[index]) for place in points])
    return Parts(np.concatenate(counts), tuple(zip(*weights, strict=True)))


def _in_runs(
    split: Annotated, what: str, make: Callable[[range], list[np.ndarray]], interim: Interim
) -> Iterator[np.ndarray]:
    """Make an array of every picture of a split, and keep them run by run."""
    for low in range(0, len(split.images), RUN):
        indices = range(low, min(low + RUN, len(split.images)))
        name = f"{what} of {split.name} from {low}"
        arrays = interim.arrays(name, partial(_numbered, make, indices))
        yield from (arrays[str(index)] for index in indices)


def _numbered(make: Callable[[range], list[np.ndarray]], indices: range) -> dict[str, np.ndarray]:
    return dict(zip(map(str, indices), make(indices), strict=True))


def _squares(height: int, width: int, side: int = 4) -> Int[np.ndarray, "height width"]:
    across = -(-width // side)
    return (np.arange(height)[:, None] // side * across + np.arange(width) // side).astype(np.int32)


def object_features(
    split: Annotated, points: Points
) -> tuple[Float[np.ndarray, "objects dim"], Bool[np.ndarray, "objects"]]:
    """Average the points in each mask to unit features; all zero, and marked so, is none."""
    place = {image.id: index for index, image in enumerate(split.images)}
    rows = []
    for one in split.objects:
        index = place[one.image]
        some = points.features[points.starts[index] : points.starts[index + 1]]
        weights = mask_weights(decode_mask(one.mask), *points.shapes[index])
        rows.append(weights @ some)
    features = np.stack(rows)
    norms = np.linalg.norm(features, axis=-1, keepdims=True)
    return features / np.maximum(norms, 1e-6), norms[:, 0] > 1e-6
