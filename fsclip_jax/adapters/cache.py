"""Sums of affinities: the votes of a key-value cache, and what kernel methods answer with."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.cache_kernel import kernels
from fsclip_jax.typing import Array, Float

MANY = 2**22
"""Affinities above which they are summed in pieces: 16 MB in float32."""

MANY_KEYS = 2**10
"""Keys up to which they are not, and those of a piece."""

_FEW_KEYS = 128
"""Keys below which a product with them is too small to be quick."""


def cache_votes(
    query: Float[Array, "query dim"],
    keys: Float[Array, "way shot dim"],
    weights: Float[Array, "way shot"],
    beta: Float[Array, ""] | float,
) -> Float[Array, "query way"]:
    """Sum the affinities of a query and the keys of each class.

    ``sum_k w_ck exp(-beta (1 - f . F_ck))``

    A key counts by its weight: 0 where there is none. In float32. Many affinities are not written
    to memory: a CPU sums them shot by shot, a GPU or TPU that is alone within one kernel.

    Example:
        >>> cache_votes(jnp.eye(2), jnp.eye(2)[:, None], jnp.ones((2, 1)), 0.0).tolist()
        [[1.0, 1.0], [1.0, 1.0]]
    """
    args = query, keys, weights, jnp.asarray(beta, jnp.float32)
    count, (way, shot) = query.shape[0], weights.shape
    if not are_many(count, way, shot):
        return votes_at_once(*args)
    if not all(isinstance(size, int) for size in (count, way, shot)):
        return votes_in_pieces(*args)
    fused = kernels(count, way, shot, query.shape[1], votes_at_once)
    return jax.lax.platform_dependent(*args, cpu=votes_in_pieces, default=votes_at_once, **fused)


def are_many(queries: Any, *keys: Any) -> bool:
    """Say whether affinities are summed in pieces; a size that is not known counts as large.

    Sizes are no integers in a program that is exported for any number.

    Example:
        >>> are_many(1000, 100, 16), are_many(3000, 100, 16)
        (False, True)
    """
    if not all(isinstance(size, int) for size in keys):
        return True
    count = math.prod(keys)
    return count > MANY_KEYS and not (isinstance(queries, int) and queries * count <= MANY)


def votes_at_once(
    query: Float[Array, "query dim"],
    keys: Float[Array, "way shot dim"],
    weights: Float[Array, "way shot"],
    beta: Float[Array, ""],
) -> Float[Array, "query way"]:
    """Compute :func:`cache_votes` by an array of all affinities."""
    similarity = jnp.einsum("qd,wsd->qws", query, keys, preferred_element_type=jnp.float32)
    # No sum over the last axis: XLA of jax 0.10.2 miscounts it on a CPU where settings are mapped,
    # as others found of products with few terms: https://github.com/jax-ml/jax/issues/39103
    return jnp.einsum("qws,ws->qw", jnp.exp(-beta * (1 - similarity)), weights)


def votes_in_pieces(
    query: Float[Array, "query dim"],
    keys: Float[Array, "way shot dim"],
    weights: Float[Array, "way shot"],
    beta: Float[Array, ""],
) -> Float[Array, "query way"]:
    """Compute :func:`cache_votes` with one shot of each class at a time, or few of few classes."""
    way, shot, dim = keys.shape
    few = min(shot, -(-_FEW_KEYS // way)) if isinstance(way, int) and isinstance(shot, int) else 1
    pieces = -(-shot // few)
    missing = [(0, 0), (0, pieces * few - shot)]
    keys = jnp.pad(keys, [*missing, (0, 0)]).reshape(way, pieces, few, dim)
    weights = jnp.pad(weights, missing).reshape(way, pieces, few)

    def add(votes: Array, some: tuple[Array, Array]) -> tuple[Array, None]:
        if few > 1:
            return votes + votes_at_once(query, *some, beta), None
        rows, counts = (x[:, 0] for x in some)
        similarity = jnp.einsum("qd,wd->qw", query, rows, preferred_element_type=jnp.float32)
        return votes + counts[None] * jnp.exp(-beta * (1 - similarity)), None

    every = jnp.swapaxes(keys, 0, 1), jnp.swapaxes(weights, 0, 1)
    return jax.lax.scan(add, jnp.zeros((query.shape[0], way), jnp.float32), every)[0]


def kernel_sums(
    query: Float[Array, "query dim"],
    keys: Float[Array, "key dim"],
    coefficients: Float[Array, "key way"],
    beta: Float[Array, ""],
) -> Float[Array, "query way"]:
    """Sum the coefficients of all keys, each by its affinity: ``exp(-beta (1 - f F^T)) A``.

    In float32; many keys come in pieces.

    Example:
        >>> kernel_sums(jnp.eye(2), jnp.eye(2), jnp.ones((2, 3)), jnp.float32(0.0)).tolist()
        [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]
    """
    count = keys.shape[0]
    few = not isinstance(count, int) or count <= 2 * MANY_KEYS
    if few or not are_many(query.shape[0], count):
        return affinities(query, keys, beta) @ coefficients

    cut = count - count % MANY_KEYS

    def add(sums: Array, some: tuple[Array, ...]) -> tuple[Array, None]:
        return sums + affinities(query, some[0], beta) @ some[1], None

    sums = jnp.zeros((query.shape[0], coefficients.shape[1]), jnp.float32)
    pieces = (x[:cut].reshape(-1, MANY_KEYS, x.shape[1]) for x in (keys, coefficients))
    sums, _ = jax.lax.scan(add, sums, tuple(pieces))
    return add(sums, (keys[cut:], coefficients[cut:]))[0] if cut < count else sums


def affinities(
    a: Float[Array, "n dim"], b: Float[Array, "m dim"], beta: Float[Array, ""]
) -> Float[Array, "n m"]:
    """Return the Gaussian kernel of unit vectors, ``exp(-beta (1 - a . b))``."""
    return jnp.exp(-beta * (1 - a @ b.T))
