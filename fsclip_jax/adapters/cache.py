"""The votes of a key-value cache, as Tip-Adapter and its successors count them."""

import jax.numpy as jnp

from fsclip_jax.typing import Array, Float


def cache_votes(
    query: Float[Array, "query dim"],
    keys: Float[Array, "way shot dim"],
    weights: Float[Array, "way shot"],
    beta: Float[Array, ""] | float,
) -> Float[Array, "query way"]:
    """Sum the affinities of a query and the keys of each class.

    ``sum_k w_ck exp(-beta (1 - f . F_ck))``

    A key counts by its weight: 0 where there is none. In float32.

    Example:
        >>> cache_votes(jnp.eye(2), jnp.eye(2)[:, None], jnp.ones((2, 1)), 0.0).tolist()
        [[1.0, 1.0], [1.0, 1.0]]
    """
    similarity = jnp.einsum("qd,wsd->qws", query, keys, preferred_element_type=jnp.float32)
    return jnp.einsum("qws,ws->qw", jnp.exp(-beta * (1 - similarity)), weights)
