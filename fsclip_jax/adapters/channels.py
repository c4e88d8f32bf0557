"""Which channels of the features tell the classes of a task apart, by the text alone."""

import jax.numpy as jnp

from fsclip_jax.typing import Array, Bool, Float


def refined_channels(
    text: Float[Array, "way dim"],
    count: int,
    *,
    similarity: float,
    variance: float,
) -> Bool[Array, " dim"]:
    """Keep the channels that vary between the classes and are not shared by them.

    Channel ``d`` is judged by ``-similarity S_d + variance V_d``, with ``S_d`` the mean of
    ``w_id w_jd`` over the pairs of different classes and ``V_d`` the (unbiased) variance of
    ``w_cd`` over the classes. Channels that are as good as the last one kept are kept too: with
    one class nothing tells the channels apart, and all remain.

    ``similarity`` and ``variance`` weigh the two. The channels are a mask, so that no shape depends
    on them.

    Example:
        >>> text = jnp.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
        >>> refined_channels(text, 2, similarity=0.7, variance=0.3).tolist()
        [True, True, False]

    Source: Zhu et al., "Not All Features Matter: Enhancing Few-shot CLIP with Adaptive Prior
    Refinement", section 3.1.
    """
    way, dim = text.shape
    total, square = text.sum(0), jnp.square(text).sum(0)
    between = (jnp.square(total) - square) / max(way * (way - 1), 1)
    spread = jnp.square(text - total[None, :] / way).sum(0) / max(way - 1, 1)
    criterion = variance * spread - similarity * between
    last = jnp.sort(criterion)[dim - min(max(count, 1), dim)]
    return criterion >= last
