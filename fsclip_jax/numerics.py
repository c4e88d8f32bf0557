"""Small numerical functions that every other part leans on."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.typing import Array, Bool, Float


def namespace_of(x: Any) -> Any:
    """Return ``numpy`` for an array on the host and ``jax.numpy`` for any other.

    Every operation of the latter that stands alone is traced and compiled, for each shape anew.

    Example:
        >>> namespace_of(np.ones(3)).__name__
        'numpy'
    """
    return np if isinstance(x, np.ndarray | np.generic) else jnp


def log_sum_exp(x: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch"]:
    """Return ``log sum exp`` over the last axis, on the host and without SciPy's import.

    Example:
        >>> log_sum_exp(np.array([[1000.0, 1000.0], [-np.inf, -np.inf]])).round(4).tolist()
        [1000.6931, -inf]
    """
    top = x.max(-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):
        return np.asarray(top[..., 0] + np.log(np.exp(x - top).sum(-1)))


def l2_normalize(x: Float[Array, "*batch dim"], eps: float = 1e-12) -> Float[Array, "*batch dim"]:
    """Scale vectors along the last axis to unit Euclidean length.

    ``x / sqrt(max(sum(x^2), eps))``: the zero vector stays zero and has a finite gradient.

    Args:
        eps: floor of the squared length.

    Example:
        >>> l2_normalize(jnp.array([3.0, 4.0])).tolist()
        [0.6000000238418579, 0.800000011920929]
    """
    square = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True)
    return (x * jax.lax.rsqrt(jnp.maximum(square, eps))).astype(x.dtype)


def masked_mean(
    x: Float[Array, "*batch shot dim"], mask: Bool[Array, "*batch shot"]
) -> Float[Array, "*batch dim"]:
    """Mean over the shots that the mask keeps; zero where it keeps none.

    Example:
        >>> masked_mean(jnp.array([[1.0], [5.0]]), jnp.array([True, False])).tolist()
        [1.0]
    """
    kept = mask.astype(x.dtype)
    total = jnp.einsum("...sd,...s->...d", x, kept)
    return total / jnp.maximum(kept.sum(-1, keepdims=True), 1)


def cosine_logits(
    query: Float[Array, "*batch query dim"],
    weights: Float[Array, "*batch way dim"],
    logit_scale: Float[Array, ""] | float,
) -> Float[Array, "*batch query way"]:
    """Scaled inner products of unit vectors, ``logit_scale * query . weights``.

    Args:
        logit_scale: CLIP's inverse temperature, 100 for the published models.

    Example:
        >>> cosine_logits(jnp.eye(2), jnp.eye(2), 100.0)[0].tolist()
        [100.0, 0.0]
    """
    return logit_scale * jnp.einsum("...qd,...wd->...qw", query, weights)
