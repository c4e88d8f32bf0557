"""Patch features of whole pictures, by a frozen CLIP of any kind."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

from fsclip_jax.clip.load import Backbone
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.features.buckets import bucket_size, padded
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.segmentation.lattice import Lattice, cut_windows, stitch
from fsclip_jax.segmentation.values import value_features
from fsclip_jax.typing import Float, Params

_BATCH = 256  # windows that go through the tower together, at most


def lattice_of(backbone: Backbone, window: int) -> Lattice:
    """Return the lattice of a backbone for windows of a side in pixels of the picture."""
    vision = backbone.config.vision
    return Lattice(window, vision.image_size, vision.grid)


def dense_features(
    backbone: Backbone, pictures: Iterable[Image.Image], lattice: Lattice
) -> Iterator[Float[np.ndarray, "rows columns dim"]]:
    """Encode pictures of any size to the unit features of their points."""
    encode = _program(backbone.graphdef, backbone.preprocess)

    def patches(picture: Image.Image, count: int) -> Iterator[Float[np.ndarray, "patches dim"]]:
        windows, size = cut_windows(picture, lattice), bucket_size(count, _BATCH)
        while some := list(itertools.islice(windows, size)):
            pixels = jnp.asarray(padded(np.stack(some), size))
            yield from np.asarray(encode(backbone.state, pixels))[: len(some)]

    for picture in pictures:
        rows, columns = lattice.shape(picture.height, picture.width)
        count = len(lattice.starts(rows)) * len(lattice.starts(columns))
        mean = stitch(patches(picture, count), lattice, rows, columns)
        yield mean / np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-6)


@functools.lru_cache(maxsize=16)  # towers of one shape share what was compiled
def _program(
    graphdef: nnx.GraphDef, preprocess: Preprocess
) -> Callable[[Params, jax.Array], jax.Array]:
    @jax.jit
    def encode(state: Params, pixels: jax.Array) -> jax.Array:
        return l2_normalize(value_features(graphdef, state, preprocess.normalize(pixels)))

    return encode
