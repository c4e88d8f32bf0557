"""Draws without replacement, as array programs: the mathematics under the sampler.

The functions take random bits instead of keys, so that an episode makes all of its bits in one
flat call: that compiles and runs several times faster than a call for every draw.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import UInt32

from fsclip_jax.typing import Array, Bool, Int


class SupportQuery(NamedTuple):
    """Images of each class on the two sides of an episode; masks say which slots are filled."""

    support: Int[Array, "way shot"]
    support_mask: Bool[Array, "way shot"]
    query: Int[Array, "way query"]
    query_mask: Bool[Array, "way query"]


def below(bits: UInt32[Array, "*shape"], size: Int[Array, "..."]) -> Int[Array, "*shape"]:
    """Turn random bits into whole numbers from 0 to size - 1.

    The remainder of a division: each probability is off by less than ``size / 2^32`` of itself.
    ``size`` is how many numbers there are, one for all or one each; 0 counts as 1.

    Example:
        >>> below(jnp.array([7], jnp.uint32), jnp.array([5])).tolist()
        [2]
    """
    return (bits % jnp.maximum(size, 1).astype(jnp.uint32)).astype(jnp.int32)


def partial_shuffle(
    bits: UInt32[Array, "count rows"], sizes: Int[Array, " rows"]
) -> Int[Array, "rows count"]:
    """First ``count`` entries of a random permutation of 0..size-1, one permutation a row.

    Step ``i`` of a Fisher-Yates shuffle exchanges the entries ``i`` and ``j_i``, with ``j_i``
    uniform in ``i..size-1``. Nothing of length ``size`` is ever made: the entry that ends at ``i``
    is found by following ``j_i`` back through the exchanges before it. The cost is
    ``rows * count^2`` and does not depend on the sizes. Returns distinct numbers below the size.
    Where the size is below ``count``, the entries from the size on are no draws (they are their own
    index), and the caller masks them.

    Example:
        >>> bits = jax.random.bits(jax.random.key(0), (4, 1))
        >>> sorted(partial_shuffle(bits, jnp.array([4]))[0].tolist())
        [0, 1, 2, 3]
    """
    step = jnp.arange(bits.shape[0], dtype=jnp.int32)[:, None]
    exchanged = step + below(bits, sizes[None] - step)

    def back(place: Array, exchange: tuple[Array, Array]) -> tuple[Array, None]:
        earlier, partner = exchange
        return jnp.where((place == partner[None]) & (step > earlier), earlier, place), None

    place, _ = jax.lax.scan(back, exchanged, (step[:, 0], exchanged), reverse=True, unroll=8)
    return place.T


def draw_classes(
    bits: UInt32[Array, " way"], usable: Bool[Array, " classes"]
) -> Int[Array, " way"]:
    """Draw classes without replacement, each usable one equally likely.

    There are not more ``bits`` than classes. Where fewer than ``way`` are usable, others follow
    after them.

    Example:
        >>> bits = jax.random.bits(jax.random.key(0), (2,))
        >>> sorted(draw_classes(bits, jnp.array([False, True, True])).tolist())
        [1, 2]
    """
    usable_first = jnp.argsort(~usable)
    places = partial_shuffle(bits[:, None], jnp.sum(usable, dtype=jnp.int32, keepdims=True))
    return usable_first[places[0]].astype(jnp.int32)


def split_images(
    bits: UInt32[Array, "slots way"], sizes: Int[Array, " way"], shots: Int[Array, ""], shot: int
) -> SupportQuery:
    """Draw support and query images of each class from one permutation of its images.

    The support is the first ``min(shots, size - 1)`` images, the query set the next ones: one
    image is always left for the query set, unless the class has only one.
    """
    query = bits.shape[0] - shot
    order = partial_shuffle(bits, sizes)
    slot = jnp.arange(bits.shape[0], dtype=jnp.int32)[None]
    taken = jnp.clip(jnp.minimum(shots, sizes - 1), 1)[:, None]
    support_mask = slot[:, :shot] < jnp.minimum(taken, sizes[:, None])
    behind = taken + slot[:, :query]
    query_set = jnp.take_along_axis(order, behind, axis=1)
    return SupportQuery(order[:, :shot], support_mask, query_set, behind < sizes[:, None])


def family_runs(
    labels: Int[Array, " n"], families: Int[Array, " n"]
) -> tuple[Int[Array, " n"], Int[Array, " n"]]:
    """Order the images by class and family, and number the families of all classes.

    Returns the order (the identity, at no cost, if the families of each class ascend already), and
    the number of the run that each image of the ordered bank is in: equal for images of one class
    and family, one more with every change.

    Args:
        labels: class of each image, in ascending order.
        families: family of each image; a negative one stands for a family of that image alone.

    Example:
        >>> order, runs = family_runs(jnp.array([0, 0, 0, 1]), jnp.array([5, 2, 5, 5]))
        >>> order.tolist(), runs.tolist()
        ([1, 0, 2, 3], [1, 2, 2, 3])
    """
    start = (labels != jnp.roll(labels, 1)) | (jnp.arange(len(labels)) == 0)
    mixed = jnp.any(~start & (families < jnp.roll(families, 1)))
    order = jax.lax.cond(
        mixed,
        lambda: jnp.lexsort((families, labels)).astype(jnp.int32),
        lambda: jnp.arange(len(labels), dtype=jnp.int32),
    )
    families = families[order]
    change = start | (families != jnp.roll(families, 1)) | (families < 0)
    return order, jnp.cumsum(change, dtype=jnp.int32)


def split_families(
    bits: UInt32[Array, "2 slots way"],
    runs: Int[Array, " n"],
    starts: Int[Array, " way"],
    sizes: Int[Array, " way"],
    shots: Int[Array, ""],
    shot: int,
) -> SupportQuery:
    """Draw support and query images of each class from families that the two do not share.

    The families of a class are put in random order. The support takes the first
    ``min(shots, families - 1)`` of them, the query set takes the next ones, as many as it has
    slots; so neither is empty, unless the class has only one family. Each side takes one random
    image of every one of its families, then any others of theirs until it has enough. The cost
    is that of `split_images` and a binary search: no pass over the images of a class.
    """
    slots = bits.shape[1]
    query, last = slots - shot, len(runs) - 1
    lowest = runs[jnp.minimum(starts, last)]
    count = jnp.where(sizes > 0, runs[jnp.clip(starts + sizes - 1, 0, last)] - lowest + 1, 0)

    families = lowest[:, None] + partial_shuffle(bits[0], count)
    first, end = jnp.searchsorted(runs, jnp.stack([families, families + 1])).astype(jnp.int32)
    slot = jnp.arange(slots, dtype=jnp.int32)[None]
    number = jnp.where(slot < count[:, None], end - first, 0)
    first -= starts[:, None]

    taken = jnp.clip(jnp.minimum(shots, count - 1), 1)[:, None]
    behind = taken + slot[:, :query]
    support, support_mask = _each_then_any(
        bits[1, :shot], first[:, :shot], jnp.where(slot < taken, number, 0)[:, :shot]
    )
    query_set, query_mask = _each_then_any(
        bits[1, shot:],
        jnp.take_along_axis(first, behind, axis=1),
        jnp.take_along_axis(number, behind, axis=1),
    )
    return SupportQuery(support, support_mask & (slot[:, :shot] < shots), query_set, query_mask)


def _each_then_any(
    bits: UInt32[Array, "slots way"],
    first: Int[Array, "way slots"],
    number: Int[Array, "way slots"],
) -> tuple[Int[Array, "way slots"], Bool[Array, "way slots"]]:
    """Draw one image of every family, then others: their places, and which slots are filled."""
    one = below(bits.T, number)
    others = jnp.maximum(number - 1, 0)
    upto = jnp.cumsum(others, axis=1, dtype=jnp.int32)
    draw = partial_shuffle(bits[::-1], upto[:, -1])
    family = jnp.sum(upto[:, None] <= draw[:, :, None], axis=-1, dtype=jnp.int32)
    family = jnp.minimum(family, number.shape[1] - 1)
    within = draw - jnp.take_along_axis(upto - others, family, axis=1)
    within += within >= jnp.take_along_axis(one, family, axis=1)
    other = jnp.take_along_axis(first, family, axis=1) + within

    slot = jnp.arange(number.shape[1], dtype=jnp.int32)[None]
    families = jnp.sum(number > 0, axis=1, keepdims=True, dtype=jnp.int32)
    later = jnp.take_along_axis(other, jnp.maximum(slot - families, 0), axis=1)
    filled = slot < jnp.sum(number, axis=1, keepdims=True)
    return jnp.where(slot < families, first + one, later), filled
