"""Class queries of an OWL-ViT from prompts."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fsclip_jax.clip.text import TextTower, cut_to_longest
from fsclip_jax.detection.owlvit_load import Detector
from fsclip_jax.features.buckets import bucket_size, padded
from fsclip_jax.features.text import tokenize
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.typing import Float, Params

TEMPLATES = ("a photo of a {}.",)
"""The prompt of a class; the authors average their best seven of CLIP's 80."""


def encode_queries(
    detector: Detector, prompts: Sequence[str], batch: int = 256
) -> Float[np.ndarray, "n dim"]:
    """Encode prompts, at least one, to unit vectors; what is longer than the context is cut."""
    tower: TextTower = nnx.merge(detector.graphdef, detector.state).clip.text
    graphdef, state = nnx.split(tower)

    @jax.jit
    def encode(state: Params, ids: jax.Array) -> jax.Array:
        return l2_normalize(nnx.merge(graphdef, state)(ids).astype(jnp.float32))

    ids = cut_to_longest(tokenize(detector.tokenizer, prompts), detector.config.text)
    size = bucket_size(len(ids), batch)
    parts = [
        np.asarray(encode(state, jnp.asarray(padded(ids[low : low + size], size))))
        for low in range(0, len(ids), size)
    ]
    return np.concatenate(parts)[: len(ids)]
