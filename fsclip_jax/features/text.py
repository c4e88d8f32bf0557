"""Text features of classes: the zero-shot weights."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, Int

from fsclip_jax.clip.families import text_side
from fsclip_jax.clip.load import Backbone
from fsclip_jax.clip.model import encode_text
from fsclip_jax.clip.tokenizer import Tokenizer
from fsclip_jax.errors import tell
from fsclip_jax.features.buckets import bucket_size, padded
from fsclip_jax.features.images import fetch
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.typing import Params


def tokenize(tokenizer: Tokenizer, prompts: Sequence[str]) -> Int[np.ndarray, "n length"]:
    """Tokenize prompts, and tell the error stream how many of them were cut."""
    ids = np.asarray(tokenizer(list(prompts)), np.int32)
    # Only a row that is full can have been cut, and few are.
    full = [text for text, row in zip(prompts, ids, strict=True) if (row[:-1] != row[-1]).all()]
    if cut := tokenizer.too_long(full):
        most = tokenizer.context_length
        tell([f"{cut} of {len(prompts)} prompts are longer than {most} tokens and were cut"])
    return ids


class ClassText(NamedTuple):
    """What a text tower says of classes.

    Attributes:
        text: unit text features, one vector a class.
        each: the unit vector of every prompt, zero where a class has fewer.
        mask: true where a class has that prompt.
        lengths: of the mean of the vectors of a class as the tower gives them, not normalised.
    """

    text: Float[np.ndarray, "classes dim"]
    each: Float[np.ndarray, "prompts classes dim"]
    mask: Bool[np.ndarray, "prompts classes"]
    lengths: Float[np.ndarray, " classes"]


def encode_prompts(
    backbone: Backbone, prompts: Sequence[str], batch: int = 256
) -> Float[np.ndarray, "n dim"]:
    """Encode prompts in batches of one size, so that there is one compile."""
    return _encode(backbone, prompts, batch)[0]


def _encode(
    backbone: Backbone, prompts: Sequence[str], batch: int
) -> tuple[Float[np.ndarray, "n dim"], Float[np.ndarray, " n"]]:
    """Return unit vectors, and the lengths that they had."""
    ids = tokenize(backbone.reader(), prompts)
    ids = text_side(backbone.config).cut(ids, backbone.config.text)
    size, encode = bucket_size(len(ids), batch), _program(encode_text, backbone.graphdef)
    parts = [
        encode(backbone.state, jnp.asarray(padded(ids[low : low + size], size)))
        for low in range(0, len(ids), size)
    ]
    vectors, lengths = (np.concatenate([fetch(part[at]) for part in parts]) for at in (0, 1))
    return vectors[: len(ids)], lengths[: len(ids)]


@functools.lru_cache(maxsize=16)  # towers of one shape share what was compiled
def _program(
    tower: Callable[..., jax.Array], graphdef: nnx.GraphDef
) -> Callable[[Params, jax.Array], tuple[jax.Array, jax.Array]]:
    @jax.jit
    def encode(state: Params, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
        vectors = tower(graphdef, state, ids)
        return l2_normalize(vectors), jnp.linalg.norm(vectors, axis=-1)

    return encode


def class_text_features(
    backbone: Backbone, prompts: Sequence[Sequence[str]], batch: int = 256
) -> ClassText:
    """Encode every prompt of every class and average over the prompts of each class.

    ``t_c = normalize(mean_p normalize(E(prompt_cp)))``, and ``|mean_p E(prompt_cp)|``.

    Source: Radford et al., Learning Transferable Visual Models From Natural Language
    Supervision, ICML 2021, section 3.1.4.
    """
    counts = np.array([len(texts) for texts in prompts])
    if not counts.size or not counts.min():
        raise ValueError("every class needs a prompt")
    mask = np.arange(counts.max())[:, None] < counts
    rows = [(place, label) for place, label in zip(*np.nonzero(mask), strict=True)]
    vectors, lengths = _encode(backbone, [prompts[c][p] for p, c in rows], batch)
    each = np.zeros((*mask.shape, vectors.shape[-1]), np.float32)
    each[mask] = vectors
    long = np.zeros_like(each)
    long[mask] = vectors * lengths[:, None]
    mean, raw = (x.sum(0) / counts[:, None].astype(np.float32) for x in (each, long))
    unit = mean / np.linalg.norm(mean, axis=-1, keepdims=True)
    return ClassText(unit, each, mask, np.linalg.norm(raw, axis=-1))
