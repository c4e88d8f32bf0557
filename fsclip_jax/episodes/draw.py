"""Draws without replacement, as array programs: the mathematics under the sampler."""

import jax
import jax.numpy as jnp
from jaxtyping import UInt32

from fsclip_jax.typing import Array, Bool, Int, PRNGKeyArray


def shot_bits(key: PRNGKeyArray, count: int, rows: int) -> UInt32[Array, "count rows"]:
    """Draw random bits in such a way that the first shots do not depend on how many follow.

    Args:
        key: a key.
        count: draws of each row.
        rows: number of rows.

    Returns:
        32 random bits each; ``shot_bits(key, k, rows)`` is the beginning of
        ``shot_bits(key, m, rows)`` for every ``k <= m``, whatever the key's implementation.

    Example:
        >>> key = jax.random.key(0)
        >>> bool((shot_bits(key, 2, 3) == shot_bits(key, 5, 3)[:2]).all())
        True
    """
    keys = jax.vmap(lambda shot: jax.random.fold_in(key, shot))(jnp.arange(count))
    return jax.vmap(lambda k: jax.random.bits(k, (rows,)))(keys)


def partial_shuffle(
    bits: UInt32[Array, "count rows"], sizes: Int[Array, " rows"]
) -> Int[Array, "rows count"]:
    """First ``count`` entries of a random permutation of 0..size-1, one permutation a row.

    Step ``i`` of a Fisher-Yates shuffle exchanges the entries ``i`` and ``j_i``, with ``j_i``
    uniform in ``i..size-1``. Nothing of length ``size`` is ever made: the entry that ends at
    ``i`` is found by following ``j_i`` back through the exchanges before it. The cost is
    ``rows * count^2`` and does not depend on the sizes. A remainder picks ``j_i``, so each
    probability is off by less than ``size / 2^32`` of itself.

    Args:
        bits: 32 random bits for each step and row.
        sizes: length of each row's permutation.

    Returns:
        Distinct numbers below the size; where the size is below ``count``, the entries from
        the size on are no draws (they are >= size), and the caller masks them.

    Example:
        >>> bits = shot_bits(jax.random.key(0), 4, 1)
        >>> sorted(partial_shuffle(bits, jnp.array([4]))[0].tolist())
        [0, 1, 2, 3]
    """
    count = bits.shape[0]
    step = jnp.arange(count, dtype=jnp.int32)[:, None]
    span = jnp.maximum(sizes.astype(jnp.int32)[None] - step, 1)
    exchanged = step + (bits % span.astype(jnp.uint32)).astype(jnp.int32)

    def back(place: Array, exchange: tuple[Array, Array]) -> tuple[Array, None]:
        earlier, partner = exchange
        return jnp.where((place == partner[None]) & (step > earlier), earlier, place), None

    place, _ = jax.lax.scan(back, exchanged, (step[:, 0], exchanged), reverse=True, unroll=8)
    return place.T


def choose(key: PRNGKeyArray, usable: Bool[Array, " classes"], way: int) -> Int[Array, " way"]:
    """Draw classes without replacement, each usable one equally likely.

    Args:
        key: a key.
        usable: true where a class may be drawn.
        way: how many to draw, at most the number of classes.

    Returns:
        Distinct class numbers in random order. Where fewer than ``way`` are usable, the others
        follow after them.

    Example:
        >>> usable = jnp.array([False, True, True])
        >>> sorted(choose(jax.random.key(0), usable, 2).tolist())
        [1, 2]
    """
    chance = jax.random.bits(key, usable.shape) >> 1
    last = jnp.uint32(2**32 - 1)
    return jnp.argsort(jnp.where(usable, chance, last))[:way].astype(jnp.int32)


def split_images(
    key: PRNGKeyArray, sizes: Int[Array, " way"], shots: Int[Array, ""], shot: int, query: int
) -> tuple[
    Int[Array, "way shot"],
    Bool[Array, "way shot"],
    Int[Array, "way query"],
    Bool[Array, "way query"],
]:
    """Draw support and query images of each class from one permutation of its images.

    The support is the first ``min(shots, size - 1)`` images, the query set the next ones: one
    image is always left for the query set, unless the class has only one.

    Args:
        key: a key.
        sizes: images of each class.
        shots: support images wanted, at most ``shot``.
        shot: slots for support images.
        query: slots for query images.

    Returns:
        Place of each support image within its class and whether the slot is filled; the same
        for the query set.
    """
    order = partial_shuffle(shot_bits(key, shot + query, sizes.shape[0]), sizes)
    taken = jnp.clip(jnp.minimum(shots, sizes - 1), 1)[:, None]
    slot = jnp.arange(max(shot, query), dtype=jnp.int32)[None]
    support_mask = slot[:, :shot] < jnp.minimum(taken, sizes[:, None])
    place = taken + slot[:, :query]
    query_set = jnp.take_along_axis(order, place, axis=1)
    return order[:, :shot], support_mask, query_set, place < sizes[:, None]


def split_families(
    key: PRNGKeyArray,
    families: Int[Array, "way size"],
    sizes: Int[Array, " way"],
    shots: Int[Array, ""],
    shot: int,
    query: int,
) -> tuple[
    Int[Array, "way shot"],
    Bool[Array, "way shot"],
    Int[Array, "way query"],
    Bool[Array, "way query"],
]:
    """Draw support and query images of each class from families that the two do not share.

    The families of a class are put in random order. The support takes the first
    ``min(shots, families - 1)`` of them, the query set has the rest, so neither is empty. Each
    side takes one random image from every one of its families in turn, then a second one, until
    it has enough. An image without a family is a family of its own.

    Args:
        key: a key.
        families: family of each image of a class, negative where it has none.
        sizes: images of each class; entries of ``families`` beyond do not count.
        shots: support images wanted, at most ``shot``.
        shot: slots for support images.
        query: slots for query images.

    Returns:
        As `split_images`.
    """
    way, size = families.shape
    place = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32), (way, size))
    absent = place >= sizes[:, None]
    families = jnp.where(families >= 0, families, -1 - place)
    family_key, image_key = jax.random.split(key)
    fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, 0))
    family_keys = fold(jax.random.split(family_key, way), families)
    chance = jax.vmap(jax.vmap(jax.random.bits))(family_keys)
    among = jax.random.bits(image_key, (way, size))

    # Families and the images within them in random order. The family itself is a sort key too:
    # equal random bits must not mix two families.
    absent, _, families, _, place = jax.lax.sort(
        (absent.astype(jnp.int32), chance, families, among, place), dimension=1, num_keys=4
    )
    index = jnp.arange(size, dtype=jnp.int32)[None]
    first = (families != jnp.roll(families, 1, axis=1)) | (index == 0)
    family = jnp.cumsum(first, axis=1, dtype=jnp.int32) - 1
    turn = index - jax.lax.cummax(jnp.where(first, index, 0), axis=1)
    count = 1 + jnp.max(jnp.where(absent == 0, family, -1), axis=1, keepdims=True)

    # One image of every family, then the second ones, and so on; absent images last.
    turn = jnp.where(absent == 0, turn, size)
    turn, family, place = jax.lax.sort((turn, family, place), dimension=1, num_keys=2)
    present = turn < size
    taken = jnp.clip(jnp.minimum(shots, count - 1), 1)
    support, support_mask = _first(place, present & (family < jnp.maximum(count - 1, 1)), shot)
    query_set, query_mask = _first(place, present & (family >= taken), query)
    return support, support_mask & (jnp.arange(shot)[None] < shots), query_set, query_mask


def _first(
    values: Int[Array, "way size"], keep: Bool[Array, "way size"], count: int
) -> tuple[Int[Array, "way count"], Bool[Array, "way count"]]:
    """Return the first ``count`` kept values of each row, and which of these there are."""
    rank = jnp.cumsum(keep, axis=1, dtype=jnp.int32)
    slot = jnp.arange(count, dtype=jnp.int32)
    index = jax.vmap(lambda row: jnp.searchsorted(row, slot, side="right"))(rank)
    found = jnp.take_along_axis(values, jnp.minimum(index, values.shape[1] - 1), axis=1)
    return found, slot[None] < rank[:, -1:]
