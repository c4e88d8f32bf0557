"""The two products with the shots that attention needs, in forms that use every core.

On a CPU, XLA runs a batch of matrix-vector products on one core. Written as sums of elementwise
products they run on all of them, and the reductions vectorise. Attention over the shots is bound
by memory, so this halves its time. Elsewhere the plain products are best.
"""

import math

import jax
import jax.numpy as jnp

from fsclip_jax.typing import Array, Float

_LANES = 64
_MOST_UNROLLED = 64


@jax.custom_vjp
def score_shots(
    probe: Float[Array, "way dim"], shots: Float[Array, "way shot dim"]
) -> Float[Array, "way shot"]:
    """Inner product of a class's probe with each of its shots, ``probe_c . F_cs``.

    Example:
        >>> score_shots(jnp.ones((1, 2)), jnp.array([[[1.0, 2.0], [3.0, 4.0]]])).tolist()
        [[3.0, 7.0]]
    """
    return jax.lax.platform_dependent(
        probe, shots, cpu=_score_in_lanes, default=lambda p, x: jnp.einsum("wd,wsd->ws", p, x)
    )


@jax.custom_vjp
def mix_shots(
    weights: Float[Array, "way shot"], shots: Float[Array, "way shot dim"]
) -> Float[Array, "way dim"]:
    """Weighted sum of the shots of each class, ``sum_s a_cs F_cs``.

    Example:
        >>> mix_shots(jnp.array([[1.0, 0.5]]), jnp.array([[[1.0, 2.0], [4.0, 4.0]]])).tolist()
        [[3.0, 4.0]]
    """
    return jax.lax.platform_dependent(
        weights, shots, cpu=_mix_unrolled, default=lambda a, x: jnp.einsum("ws,wsd->wd", a, x)
    )


def _score_in_lanes(probe: Array, shots: Array) -> Array:
    way, shot, dim = shots.shape
    lanes = math.gcd(dim, _LANES)
    # Summed over an axis that is not the last, so that the lanes add side by side.
    split = (dim // lanes, lanes)
    product = probe.reshape(way, 1, *split) * shots.reshape(way, shot, *split)
    return product.sum(2).sum(-1)


def _mix_unrolled(weights: Array, shots: Array) -> Array:
    shot = shots.shape[1]
    # In a program that is exported for any number of shots, the number is no integer.
    if not isinstance(shot, int) or not 0 < shot <= _MOST_UNROLLED:
        return jnp.einsum("ws,wsd->wd", weights, shots)
    total = weights[:, 0, None] * shots[:, 0]
    for index in range(1, shot):
        total = total + weights[:, index, None] * shots[:, index]
    return total


def _outer(weights: Array, vectors: Array) -> Array:
    return weights[..., None] * vectors[:, None, :]


# Each is the other's derivative with respect to its first argument. Automatic differentiation
# would write these derivatives in the slow forms again.
score_shots.defvjp(
    lambda probe, shots: (score_shots(probe, shots), (probe, shots)),
    lambda kept, g: (mix_shots(g, kept[1]), _outer(g, kept[0])),
)
mix_shots.defvjp(
    lambda weights, shots: (mix_shots(weights, shots), (weights, shots)),
    lambda kept, g: (score_shots(g, kept[1]), _outer(kept[0], g)),
)
