"""One Gaussian a class over the queries, and answers that neighbours share.

TransCLIP and StatA maximise, in the answers ``z``, the means and the variances,

    sum_i z_i . log N(x_i) / 50 + sum_ij w_ij z_i . z_j / 2k - KL(z_i || y_i^weight)

``y`` being the answers that are refined, ``w`` the cosines of the ``k`` nearest queries and ``N``
densities without their determinants, as the published codes have them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fsclip_jax.numerics import l2_normalize
from fsclip_jax.transductive.base import Batch
from fsclip_jax.typing import Array, Float, Int

TEMPERATURE = 50.0
"""Densities count a fiftieth, in both published codes."""

_LEAST_VARIANCE = 1e-8
_BLOCK = 2048
"""Rows of the cosines between queries that are in memory at once."""


class Graph(NamedTuple):
    """The nearest other queries of each query, and their cosines; 0 where there are fewer."""

    place: Int[Array, "query near"]
    weight: Float[Array, "query near"]


def nearest(batch: Batch, near: int) -> Graph:
    """Find the ``near`` most similar other queries of each."""
    features, count = batch.features.astype(jnp.float32), len(batch.mask)
    size = min(_BLOCK, count)
    rows = jnp.arange(-(-count // size) * size).reshape(-1, size)

    def of(block: Int[Array, " size"]) -> tuple[Array, Array]:
        cosines = features[jnp.minimum(block, count - 1)] @ features.T
        other = batch.mask[None] & (jnp.arange(count)[None] != block[:, None])
        values, index = jax.lax.top_k(jnp.where(other, cosines, -jnp.inf), min(near, count))
        return values, index

    weight, index = (x.reshape(-1, x.shape[-1])[:count] for x in jax.lax.map(of, rows))
    return Graph(index, jnp.where(jnp.isfinite(weight) & batch.mask[:, None], weight, 0.0))


def assign(
    fixed: Float[Array, "query way"],
    z: Float[Array, "query way"],
    graph: Graph,
    near: int,
    rounds: int,
) -> Float[Array, "query way"]:
    """Return the logarithms of the answers after so many rounds between neighbours.

    ``z_i = softmax(fixed_i + sum_j (w_ij + w_ji) z_j / 2k)``, all at once in a round.
    """

    def shared(z: Float[Array, "query way"]) -> Float[Array, "query way"]:
        out = jnp.zeros_like(z)
        for near_by in range(graph.place.shape[1]):
            index, weight = graph.place[:, near_by], graph.weight[:, near_by, None]
            out = (out + weight * z[index]).at[index].add(weight * z)
        return out / (2 * near)

    def once(_: Int[Array, ""], log: Float[Array, "query way"]) -> Float[Array, "query way"]:
        return jax.nn.log_softmax(fixed + shared(jnp.exp(log)), axis=-1)

    first = jax.nn.log_softmax(fixed + shared(z), axis=-1)
    return jax.lax.fori_loop(0, rounds - 1, once, first)


def log_densities(
    batch: Batch, mean: Float[Array, "way dim"], variance: Float[Array, "rows dim"]
) -> Float[Array, "query way"]:
    """Return ``-sum_d (x - m)^2 / 2 v``; the variance has one row, or one a class."""
    # Both about the same point, as some channels of CLIP are large for every image.
    middle = (batch.mask @ batch.features / jnp.maximum(batch.mask.sum(), 1))[None]
    x, m, precision = batch.features - middle, mean - middle, 1 / variance
    products = jnp.square(x) @ precision.T - 2 * x @ (m * precision).T
    return -(products + (jnp.square(m) * precision).sum(-1)[None]) / 2


def weigh(z: Float[Array, "query way"], batch: Batch) -> Float[Array, "query way"]:
    """Leave out what is no query."""
    return jnp.where(batch.mask[:, None], z, 0.0)


def unit_means(
    z: Float[Array, "query way"], batch: Batch, otherwise: Float[Array, "way dim"]
) -> Float[Array, "way dim"]:
    """Return the mean query of each class, of unit length; another vector where there is none."""
    total = z.sum(0)[:, None]
    mean = l2_normalize(z.T @ batch.features / jnp.where(total > 0, total, 1))
    return jnp.where(total > 0, mean, otherwise)


def spread_by_class(
    z: Float[Array, "query way"], batch: Batch, mean: Float[Array, "way dim"]
) -> Float[Array, "way dim"]:
    """Return ``sum_i z_ic (x_i - m_c)^2``."""
    x, total = batch.features, z.sum(0)[:, None]
    return z.T @ jnp.square(x) - 2 * mean * (z.T @ x) + jnp.square(mean) * total


def at_least(variance: Float[Array, "rows dim"]) -> Float[Array, "rows dim"]:
    """Keep variances from zero, which queries that are all alike have."""
    return jnp.maximum(variance, _LEAST_VARIANCE)
