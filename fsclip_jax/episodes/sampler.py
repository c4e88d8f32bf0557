"""Episodes drawn on the device from a class-sorted bank: indices only, no feature is read.

Every function is pure, compiled on its own, and works under ``jit`` and ``vmap``. Slots that
cannot be filled are masked and hold the index 0; no image and no class is ever drawn twice.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import UInt32

from fsclip_jax.devices import batch_sharding
from fsclip_jax.episodes.draw import (
    SupportQuery,
    below,
    draw_classes,
    family_runs,
    partial_shuffle,
    split_families,
    split_images,
)
from fsclip_jax.errors import UserError
from fsclip_jax.features.bank import Bank
from fsclip_jax.typing import Array, Bool, Int, PRNGKeyArray


@dataclass(frozen=True)
class EpisodeSpec:
    """Sizes of an episode; static, hence part of what is compiled.

    Attributes:
        query: query images a class, at most.
        min_shot: if given, each episode draws its number of shots uniformly from
            ``min_shot..shot``; otherwise it is always ``shot``.

    Example:
        >>> EpisodeSpec(way=5, shot=4, query=15, min_shot=1).way
        5
    """

    way: int
    shot: int
    query: int
    min_shot: int | None = None

    def __post_init__(self) -> None:
        for name in ("way", "shot", "query"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; give at least 1")
        if self.min_shot is not None and not 1 <= self.min_shot <= self.shot:
            raise UserError(
                f"min_shot is {self.min_shot}; give 1 to {self.shot}, the number of shots"
            )


class Episode(NamedTuple):
    """Which classes and which rows of the bank an episode is made of; rows are 0 where masked."""

    classes: Int[Array, "*batch way"]
    support: Int[Array, "*batch way shot"]
    support_mask: Bool[Array, "*batch way shot"]
    query: Int[Array, "*batch way query"]
    query_mask: Bool[Array, "*batch way query"]


@jax.jit
def usable_classes(bank: Bank) -> Bool[Array, " classes"]:
    """Say which classes can give a support and a query image that share no family.

    It takes two images or more, of two families or more if the class has families.

    Example:
        >>> zeros = jnp.zeros
        >>> bank = Bank(zeros((1, 3, 4)), jnp.array([0, 1, 1]), jnp.array([0, 1]),
        ...             jnp.array([1, 2]), -jnp.ones(3, int), zeros((2, 4)), jnp.float32(100))
        >>> usable_classes(bank).tolist()
        [False, True]
    """

    def by_family() -> Array:
        # The images of a class lie side by side: two families show as two unlike neighbours.
        unlike = (bank.domains != jnp.roll(bank.domains, 1)) | (bank.domains < 0)
        upto = jnp.cumsum(unlike, dtype=jnp.int32)
        last = jnp.clip(bank.starts + bank.sizes - 1, 0, len(upto) - 1)
        return upto[last] > upto[jnp.minimum(bank.starts, len(upto) - 1)]

    enough = bank.sizes >= 2
    return enough & jax.lax.cond(_has_families(bank), by_family, lambda: enough)


def _has_families(bank: Bank) -> Bool[Array, ""]:
    return jnp.any(bank.domains >= 0)


@partial(jax.jit, static_argnames=("spec", "max_size"))
def sample_episode(key: PRNGKeyArray, bank: Bank, spec: EpisodeSpec, max_size: int) -> Episode:
    """Draw one episode: classes, their support images and their query images.

    Classes are drawn uniformly without replacement from those that can give both a support and a
    query image. Without families, support and query are two parts of one random permutation of the
    class's images (`split_images`). With families, the two sides share none (`split_families`); a
    bank whose classes are sorted by family saves a sort of the bank here. Which of the two runs
    depends on the bank alone, so under ``vmap`` over keys only one of them does. Either costs
    ``way * (shot + query)^2``, whatever the size of the classes. A class that has too little fills
    fewer slots, the query set at least one. ``max_size`` is the size of the bank's largest class
    (`largest_class`): no more slots than this are worked on.

    Example:
        >>> zeros = jnp.zeros
        >>> bank = Bank(zeros((1, 6, 4)), jnp.repeat(jnp.arange(2), 3), jnp.array([0, 3]),
        ...             jnp.array([3, 3]), -jnp.ones(6, int), zeros((2, 4)), jnp.float32(100))
        >>> episode = sample_episode(jax.random.key(0), bank, EpisodeSpec(2, 1, 2), 3)
        >>> sorted(episode.support.ravel().tolist() + episode.query.ravel().tolist())
        [0, 1, 2, 3, 4, 5]
    """
    shot, query = min(spec.shot, max_size), min(spec.query, max_size)
    count = spec.way * (shot + query)
    bits = jax.random.bits(key, (1 + spec.way + 2 * count,))
    image_bits = bits[1 + spec.way :].reshape(2, shot + query, spec.way)
    shots = jnp.minimum(_shots(bits[0], spec), shot)
    classes = draw_classes(bits[1 : 1 + spec.way], usable_classes(bank))
    starts, sizes = bank.starts[classes], bank.sizes[classes]

    def by_family() -> SupportQuery:
        order, runs = family_runs(bank.labels, bank.domains)
        split = split_families(image_bits, runs, starts, sizes, shots, shot)
        return split._replace(
            support=order[starts[:, None] + split.support],
            query=order[starts[:, None] + split.query],
        )

    def by_image() -> SupportQuery:
        split = split_images(image_bits[0], sizes, shots, shot)
        return split._replace(
            support=starts[:, None] + split.support, query=starts[:, None] + split.query
        )

    split = jax.lax.cond(_has_families(bank), by_family, by_image)
    return Episode(
        classes,
        *_fill(split.support, split.support_mask, spec.shot),
        *_fill(split.query, split.query_mask, spec.query),
    )


def _shots(bits: UInt32[Array, ""], spec: EpisodeSpec) -> Int[Array, ""]:
    if spec.min_shot is None:
        return jnp.int32(spec.shot)
    return spec.min_shot + below(bits, jnp.int32(spec.shot + 1 - spec.min_shot))


def _fill(rows: Array, mask: Array, slots: int) -> tuple[Array, Array]:
    """Put 0 where masked, and append empty slots up to the number asked for."""
    wider = ((0, 0), (0, slots - rows.shape[1]))
    return jnp.pad(jnp.where(mask, rows, 0), wider), jnp.pad(mask, wider)


@partial(jax.jit, static_argnames=("spec", "max_size"))
def sample_across(
    key: PRNGKeyArray, support_bank: Bank, query_bank: Bank, spec: EpisodeSpec, max_size: int
) -> Episode:
    """Draw one episode whose support comes from one bank and whose query set from another.

    For test episodes where the train split gives the shots and the test split the queries: the
    two are disjoint because the banks are. Classes are drawn from those that both banks have.

    Args:
        support_bank: for example the train split of the novel classes.
        query_bank: the test split of the same classes, in the same order.
    """
    class_key, support_key, query_key = jax.random.split(key, 3)
    bits = jax.random.bits(class_key, (1 + spec.way,))
    classes = draw_classes(bits[1:], (support_bank.sizes > 0) & (query_bank.sizes > 0))
    support, mask = sample_support(support_key, support_bank, classes, spec.shot, max_size)
    mask &= jnp.arange(spec.shot)[None] < _shots(bits[0], spec)
    query, query_mask = sample_query(query_key, query_bank, classes, spec.query, max_size)
    return Episode(classes, *_fill(support, mask, spec.shot), query, query_mask)


@partial(jax.jit, static_argnames=("shot", "max_size"))
def sample_support(
    key: PRNGKeyArray, bank: Bank, classes: Int[Array, " way"], shot: int, max_size: int
) -> tuple[Int[Array, "way shot"], Bool[Array, "way shot"]]:
    """Draw the shots of given classes: the support of a full-way task.

    Each image of a class is equally likely, none is drawn twice. For one key the draws are nested
    (the 1-shot support is the first column of the 2-shot one), and the draw of a class does not
    depend on the classes asked for beside it. Returns rows of the bank, 0 where masked, and the
    mask: false where a class has no more images.

    Example:
        >>> zeros = jnp.zeros
        >>> bank = Bank(zeros((1, 3, 4)), jnp.array([0, 1, 1]), jnp.array([0, 1]),
        ...             jnp.array([1, 2]), -jnp.ones(3, int), zeros((2, 4)), jnp.float32(100))
        >>> index, mask = sample_support(jax.random.key(0), bank, jnp.array([0, 1]), 2, 2)
        >>> mask.tolist()
        [[True, False], [True, True]]
    """
    count = min(shot, max_size)
    # One key for every (shot, class): no draw depends on how many shots or classes there are.
    numbers = jnp.arange(count)[:, None] * len(bank.sizes) + classes[None]
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers.ravel())
    bits = jax.vmap(jax.random.bits)(keys).reshape(numbers.shape)
    starts, sizes = bank.starts[classes], bank.sizes[classes]
    mask = jnp.arange(count)[None] < sizes[:, None]
    return _fill(starts[:, None] + partial_shuffle(bits, sizes), mask, shot)


@partial(jax.jit, static_argnames=("query", "max_size"))
def sample_query(
    key: PRNGKeyArray, bank: Bank, classes: Int[Array, " way"], query: int, max_size: int
) -> tuple[Int[Array, "way query"], Bool[Array, "way query"]]:
    """Draw query images of given classes from a bank that gave no support image.

    As `sample_support`, with draws independent of those of the same key. Images of the support
    are not known here: use another split's bank, or `sample_episode`.
    """
    return sample_support(jax.random.fold_in(key, 1), bank, classes, query, max_size)


def sample_batch(
    key: PRNGKeyArray,
    bank: Bank,
    spec: EpisodeSpec,
    max_size: int,
    batch: int,
    mesh: Mesh | None = None,
) -> Episode:
    """Draw a batch of episodes, each with its own key, split over the devices of a mesh.

    Episode ``i`` is ``sample_episode(split(key, batch)[i], ...)``: it does not depend on the number
    of devices. For step ``s`` of a run, pass ``fold_in(key, s)``. Returns episodes with a leading
    axis of ``batch``, sharded over the axis ``data``.

    Args:
        batch: number of episodes; static, a multiple of the number of devices.
        mesh: from `data_mesh`; static. None: the default device.

    Raises:
        UserError: the batch cannot be split evenly over the devices.
    """
    if mesh is not None and batch % mesh.size:
        raise UserError(
            f"a batch of {batch} episodes cannot be split over {mesh.size} devices: "
            f"give a multiple of {mesh.size}"
        )
    return _sample_batch(key, bank, spec, max_size, batch, mesh)


@partial(jax.jit, static_argnames=("spec", "max_size", "batch", "mesh"))
def _sample_batch(
    key: PRNGKeyArray, bank: Bank, spec: EpisodeSpec, max_size: int, batch: int, mesh: Mesh | None
) -> Episode:
    keys = jax.random.split(key, batch)
    if mesh is not None:
        keys = jax.lax.with_sharding_constraint(keys, batch_sharding(mesh))
    episodes = jax.vmap(lambda k: sample_episode(k, bank, spec, max_size))(keys)
    if mesh is None:
        return episodes
    return jax.lax.with_sharding_constraint(episodes, batch_sharding(mesh))
