"""Attention as both towers of CLIP compute it, with the softmax in float32 in any dtype."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from fsclip_jax.clip.initial import drawn
from fsclip_jax.typing import Array, Bool, Float


class Past(NamedTuple):
    """What one block keeps of positions that came before, the same for all sequences."""

    keys: Float[Array, "past heads channels"]
    values: Float[Array, "past heads channels"]


def attend(
    q: Float[Array, "batch asked heads channels"],
    k: Float[Array, "batch length heads channels"],
    v: Float[Array, "batch length heads channels"],
    mask: Bool[Array, "#batch asked length"] | None = None,
    past: Past | None = None,
) -> Float[Array, "batch asked heads channels"]:
    """Compute ``softmax(Q K^T / sqrt(d)) V`` with the softmax in float32.

    A query sees the keys that the mask keeps (all if there is none), and all of the past. The heads
    come first, and the softmax's sum divides last, where there are fewer numbers.

    Example:
        >>> attend(*jnp.ones((3, 2, 5, 4, 8))).shape
        (2, 5, 4, 8)
    """

    def product(one: Array, other: Array, axes: str) -> Array:
        return jnp.einsum(axes, one, other, preferred_element_type=jnp.float32)

    q, k, v = (x.swapaxes(1, 2) for x in (q * q.shape[-1] ** -0.5, k, v))
    scores = product(q, k, "bhqd,bhkd->bhqk")
    if mask is not None:
        scores = jnp.where(mask[:, None], scores, jnp.finfo(scores.dtype).min)
    top = scores.max(-1, keepdims=True)
    if past is not None:
        before = product(q, past.keys, "bhqd,phd->bhqp")
        top = jnp.maximum(top, before.max(-1, keepdims=True))
    top = jax.lax.stop_gradient(top)
    weights = jnp.exp(scores - top)
    total = weights.sum(-1, keepdims=True)
    mixed = product(weights.astype(v.dtype), v, "bhqk,bhkd->bhqd")
    if past is not None:
        weights = jnp.exp(before - top)
        total = total + weights.sum(-1, keepdims=True)
        mixed = mixed + product(weights.astype(v.dtype), past.values, "bhqp,phd->bhqd")
    return (mixed / total).astype(v.dtype).swapaxes(1, 2)


def flash_attention(
    q: Float[Array, "batch asked heads channels"],
    k: Float[Array, "batch length heads channels"],
    v: Float[Array, "batch length heads channels"],
    mask: Bool[Array, "#batch asked length"] | None,
    causal: bool,
) -> Float[Array, "batch asked heads channels"] | None:
    """Compute the same as `attend` by cuDNN, which never writes the scores to memory.

    ``causal`` says that the mask is the causal one. None is returned where cuDNN does not do it:
    other devices, float32, other masks, heads of an odd width, or cuDNN not there.
    """
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    if jax.default_backend() != "gpu" or not half or (mask is not None and not causal):
        return None
    if q.shape[-1] % 8 or q.shape[-1] > 128:
        return None
    try:
        return jax.nn.dot_product_attention(q, k, v, is_causal=causal, implementation="cudnn")
    except (NotImplementedError, RuntimeError, ValueError):
        return None


def linear(width: int, out: int, std: float, *, bias: bool = True, rngs: nnx.Rngs) -> nnx.Linear:
    """Build a linear layer whose weights start out normally distributed about zero."""
    initial = drawn(nnx.initializers.normal(std), rngs)
    return nnx.Linear(width, out, use_bias=bias, kernel_init=initial, rngs=rngs)


def embedding(rows: int, width: int, std: float, *, rngs: nnx.Rngs) -> nnx.Param:
    """Build a table of vectors that start out normally distributed about zero."""
    initial = drawn(nnx.initializers.normal(std), rngs)
    return nnx.Param(initial(rngs.params(), (rows, width)))


def vector(width: int, std: float, *, rngs: nnx.Rngs) -> nnx.Param:
    """Build a vector that starts out normally distributed about zero."""
    return nnx.Param(drawn(nnx.initializers.normal(std), rngs)(rngs.params(), (width,)))


class Attention(nnx.Module):
    """Multi-head attention, ``softmax(Q K^T / sqrt(d)) V``, with a bias in every projection.

    The heads divide the width; ``out_std`` is the standard deviation of the output projection at
    the start of training.
    """

    def __init__(self, width: int, heads: int, out_std: float, *, rngs: nnx.Rngs):
        self.heads = heads
        self.q_proj = linear(width, width, width**-0.5, rngs=rngs)
        self.k_proj = linear(width, width, width**-0.5, rngs=rngs)
        self.v_proj = linear(width, width, width**-0.5, rngs=rngs)
        self.out_proj = linear(width, width, out_std, rngs=rngs)

    def keys_values(
        self, source: Float[Array, "batch length width"]
    ) -> tuple[Float[Array, "batch length heads channels"], ...]:
        """Project positions to the keys and values by which others look at them."""
        return self._split(self.k_proj(source)), self._split(self.v_proj(source))

    def __call__(
        self,
        x: Float[Array, "batch asked width"],
        source: Float[Array, "batch length width"],
        mask: Bool[Array, "#batch asked length"] | None,
        past: Past | None = None,
        *,
        causal: bool = False,
    ) -> Float[Array, "batch asked width"]:
        """Let the positions of ``x`` look at those of ``source`` that the mask keeps.

        They look at all positions of the past, which is not copied for each sequence. ``causal``
        says that the mask is the causal one and ``x`` all of ``source``.
        """
        q, (k, v) = self._split(self.q_proj(x)), self.keys_values(source)
        mixed = None if past is not None else flash_attention(q, k, v, mask, causal)
        if mixed is None:
            mixed = attend(q, k, v, mask, past)
        return self.out_proj(mixed.reshape(x.shape))

    def _split(self, y: Float[Array, "batch length width"]) -> Array:
        return y.reshape(*y.shape[:2], self.heads, -1)
