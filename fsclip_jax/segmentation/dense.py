"""Patch features of whole pictures, by a frozen CLIP of any kind."""

from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from fsclip_jax.clip.load import Backbone
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

    @jax.jit
    def encode(state: Params, pixels: jax.Array) -> jax.Array:
        pixels = backbone.preprocess.normalize(pixels)
        return l2_normalize(value_features(backbone.graphdef, state, pixels))

    for picture in pictures:
        rows, columns = lattice.shape(picture.height, picture.width)
        windows = cut_windows(picture, lattice)
        size = bucket_size(len(windows), _BATCH)
        parts = [
            encode(backbone.state, jnp.asarray(padded(windows[low : low + size], size)))
            for low in range(0, len(windows), size)
        ]
        patches = np.concatenate([np.asarray(part) for part in parts])[: len(windows)]
        mean = stitch(patches, lattice, rows, columns)
        yield mean / np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-6)
