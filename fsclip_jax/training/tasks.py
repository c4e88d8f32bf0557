"""Where the episodes of a run come from: those it learns from, and the fixed ones that judge it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from fsclip_jax.adapters.base import Adapter, query_logits
from fsclip_jax.data.splits import base_novel, meta_val
from fsclip_jax.devices import DATA_AXIS, batch_sharding
from fsclip_jax.episodes.check import check_shots
from fsclip_jax.episodes.gather import gather, gather_query, gather_support, mean_view
from fsclip_jax.episodes.sampler import (
    Episode,
    EpisodeSpec,
    sample_across,
    sample_batch,
    sample_episode,
    usable_classes,
)
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.errors import UserError
from fsclip_jax.features.bank import Bank, StoredBank, largest_class
from fsclip_jax.features.rows import BankRows
from fsclip_jax.training.config import Placement, TrainConfig
from fsclip_jax.training.placement import in_own_bank
from fsclip_jax.typing import Array, Float, Params, PRNGKeyArray

_VAL_SEED = 20
"""The validation episodes are the same whatever the seed of the run."""

_EPISODES_AT_ONCE = 8
"""Validation episodes that are in memory together."""


class EpisodeSource(NamedTuple):
    """A bank to draw from, on the device, and the mean over the views of each image.

    The mean is a unit vector: the support of an episode, in training as in evaluation. Where the
    features do not lie whole on every device, both have no row, and ``rows`` reads them.
    """

    bank: Bank
    mean: Float[Array, "n dim"]
    rows: BankRows | None = None


class EpisodePlan(NamedTuple):
    """What is static about the episodes of a bank.

    ``max_size`` is the number of images of the largest class, ``families`` whether the images
    have families.
    """

    spec: EpisodeSpec
    max_size: int
    families: bool


class Validation(NamedTuple):
    """Fixed episodes on classes that are never trained on.

    Queries are the val images where there are any. ``episodes`` are indices into the two sources,
    with a leading axis of episodes.
    """

    support: EpisodeSource
    query: EpisodeSource
    episodes: Episode


def choose_classes(
    n_classes: int, classes: str, easy: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the classes to train on and those held out for the validation.

    The first are of the ``base`` classes, of the ``easy`` ones, whose ids must then be given, or of
    ``all``. The two have no class in common; the second may be empty.

    Example:
        >>> train, val = choose_classes(20, "base")
        >>> train.tolist(), val.tolist()
        ([0, 1, 2, 3, 4, 5, 6, 7], [8, 9])
    """
    if classes == "easy":
        assert easy is not None
        return meta_val(easy)
    base, _ = base_novel(n_classes)
    return meta_val(base if classes == "base" else np.arange(n_classes, dtype=np.int32))


def episode_source(bank: Bank, rows: BankRows | None = None) -> EpisodeSource:
    """Put the mean over the views beside the bank."""
    return EpisodeSource(bank, mean_view(bank) if rows is None else bank.features[0], rows)


def _source_of(
    stored: StoredBank, split: str, class_ids: np.ndarray, patches: bool, placement: str
) -> EpisodeSource:
    whole = placement == "replicated"
    bank = stored.select((split,), class_ids, patches=patches, features=whole)
    order = None if whole else stored.sorted_rows((split,), class_ids)[0]
    return episode_source(bank, None if order is None else BankRows(stored, order))


def whole_task(source: EpisodeSource) -> Task:
    """Make one task of all classes to train on, with all their images as shots.

    A method may start from its statistics; see `state.prime`.
    """
    bank = source.bank
    slots = jnp.arange(largest_class(bank), dtype=jnp.int32)
    mask = slots[None] < bank.sizes[:, None]
    index = jnp.where(mask, bank.starts[:, None] + slots[None], 0)
    classes = jnp.arange(len(bank.sizes), dtype=jnp.int32)
    return gather_support(bank, classes, index, mask, mean=source.mean)


def training_episodes(
    stored: StoredBank,
    config: TrainConfig,
    class_ids: np.ndarray,
    *,
    patches: bool = False,
    placement: Placement = "replicated",
) -> tuple[EpisodeSource, EpisodePlan]:
    """Prepare the train images of the classes to train on.

    ``way`` is lowered to the number of classes there are. With ``patches``, those of the query
    images are at hand.

    Raises:
        UserError: fewer than two classes, or a class with too few images.
    """
    source = _source_of(stored, "train", class_ids, patches, placement)
    bank = source.bank
    names = tuple(stored.class_names[int(label)] for label in class_ids)
    if stored.domains is None:
        check_shots(bank, config.min_shot or config.shot, names, spare=1)
    return source, _plan(bank, config, int(usable_classes(bank).sum()))


def _plan(bank: Bank, config: TrainConfig, usable: int) -> EpisodePlan:
    if usable < 2:
        raise UserError(
            f"{usable} of {len(bank.sizes)} classes to train on can give a support and a query "
            "image; at least 2 are needed: add images or classes, or try --classes all"
        )
    size = largest_class(bank)
    shot = max(1, min(config.shot, size - 1))
    low = None if config.min_shot is None else min(config.min_shot, shot)
    spec = EpisodeSpec(min(config.way, usable), shot, config.query, low)
    return EpisodePlan(spec, size, bool((bank.domains >= 0).any()))


def validation_episodes(
    stored: StoredBank,
    config: TrainConfig,
    class_ids: np.ndarray,
    *,
    patches: bool = False,
    placement: Placement = "replicated",
) -> Validation | None:
    """Draw the fixed episodes that the validation accuracy is measured on.

    The support is from the train images. The queries are val images where the data has any of
    these classes, else train images that are not in the support.

    None where fewer than two classes are held out. Where the features do not lie whole on every
    device, the rows of these episodes do.
    """
    if len(class_ids) < 2:
        return None
    names = [name for name in ("train", "val") if _has_images(stored, name, class_ids)]
    if "train" not in names:
        return None
    sources = [_source_of(stored, name, class_ids, patches, placement) for name in names]
    support, query = sources[0].bank, sources[-1].bank
    across = len(sources) == 2
    usable = (support.sizes > 0) & (query.sizes > 0) if across else usable_classes(support)
    if int(usable.sum()) < 2:
        return None
    plan = _plan(support, config, int(usable.sum()))
    max_size = max(plan.max_size, largest_class(query))

    def draw(key: PRNGKeyArray) -> Episode:
        if across:
            return sample_across(key, support, query, plan.spec, max_size)
        return sample_episode(key, support, plan.spec, max_size)

    keys = jax.random.split(jax.random.key(_VAL_SEED), config.val_episodes)
    episodes = jax.jit(jax.vmap(draw))(keys)
    of_support, places = _few_rows(sources[0], episodes.support)
    of_query, behind = _few_rows(sources[-1], episodes.query)
    return Validation(of_support, of_query, episodes._replace(support=places, query=behind))


def _few_rows(source: EpisodeSource, index: Array) -> tuple[EpisodeSource, Array]:
    """Read the rows that are asked for, if they are not there, and say where they are then."""
    if source.rows is None:
        return source, index
    used, places = np.unique(np.asarray(index), return_inverse=True)
    few = source.bank._replace(features=jnp.asarray(source.rows.read(used)))
    return episode_source(few), jnp.asarray(places.reshape(index.shape), jnp.int32)


def _has_images(stored: StoredBank, split: str, class_ids: np.ndarray) -> bool:
    number = ("train", "val").index(split)
    return bool(((stored.splits == number) & np.isin(stored.labels, class_ids)).any())


def make_sampler(
    plan: EpisodePlan, batch: int, mesh: Mesh | None = None
) -> Callable[[PRNGKeyArray, EpisodeSource], tuple[Task, Query]]:
    """Return the function that draws a batch of training episodes.

    The support is the mean over the views, as in evaluation. A query is a random view, so that
    what an adapter learns does not lean on the plain crop.

    ``sample(key, source) -> (Task, Query)`` has a leading axis of ``batch`` episodes, a multiple
    of the number of devices of the mesh.
    """
    draw = make_draw(plan, batch, mesh)

    def sample(key: PRNGKeyArray, source: EpisodeSource) -> tuple[Task, Query]:
        episodes = draw(key, source.bank)
        keys = jax.random.split(jax.random.split(key)[1], batch)
        if mesh is not None:
            keys = jax.lax.with_sharding_constraint(keys, batch_sharding(mesh))

        def read(episode: Episode, key: PRNGKeyArray) -> tuple[Task, Query]:
            return gather(source.bank, episode, query_view="random", key=key, mean=source.mean)

        return jax.vmap(read)(episodes, keys)

    return sample


def make_draw(
    plan: EpisodePlan, batch: int, mesh: Mesh | None = None
) -> Callable[[PRNGKeyArray, Bank], Episode]:
    """Return the function that says which rows the episodes of `make_sampler` read."""

    def draw(key: PRNGKeyArray, bank: Bank) -> Episode:
        bank = bank if plan.families else _without_families(bank)
        key = jax.random.split(key)[0]
        return sample_batch(key, bank, plan.spec, plan.max_size, batch, mesh)

    return draw


def make_reader(
    batch: int, mesh: Mesh | None = None
) -> Callable[[PRNGKeyArray, Bank, Episode, Array], tuple[Task, Query]]:
    """Return the function that makes the tasks of drawn episodes from rows that were read for them.

    ``read(key, bank, episodes, rows) -> (Task, Query)``, what `make_sampler` gives for the same
    key; the rows are [batch view rows dim] in the order of ``placement.rows_of``.
    """

    def one(bank: Bank, episode: Episode, key: PRNGKeyArray, rows: Array) -> tuple[Task, Query]:
        own, places = in_own_bank(bank, episode, rows)
        return gather(own, places, query_view="random", key=key, mean=mean_view(own))

    def read(key: PRNGKeyArray, bank: Bank, episodes: Episode, rows: Array) -> tuple[Task, Query]:
        keys = jax.random.split(jax.random.split(key)[1], batch)
        if mesh is not None:
            keys = jax.lax.with_sharding_constraint(keys, batch_sharding(mesh))
        return jax.vmap(one, in_axes=(None, 0, 0, 0))(bank, episodes, keys, rows)

    return read


def _without_families(bank: Bank) -> Bank:
    """The same bank with a constant that says so: drawing by family is then never compiled."""
    return bank._replace(domains=jnp.full(bank.domains.shape, -1, bank.domains.dtype))


def make_validate(
    adapter: Adapter, mesh: Mesh | None = None
) -> Callable[[Params, Validation], Float[Array, ""]]:
    """Compile ``validate(params, validation)``: percent of the queries classified rightly.

    The episodes are split over the devices of the mesh.
    """

    def of_share(
        params: Params, support: EpisodeSource, query: EpisodeSource, episodes: Episode
    ) -> tuple[Array, Array]:
        def one(episode: Episode) -> tuple[Array, Array]:
            task = gather_support(
                support.bank,
                episode.classes,
                episode.support,
                episode.support_mask,
                mean=support.mean,
            )
            queries = gather_query(query.bank, episode.query, episode.query_mask)
            state = adapter.fit(params, task, jax.random.key(_VAL_SEED))
            right = query_logits(adapter, state, queries).argmax(-1) == queries.labels
            return (right & queries.mask).sum(), queries.mask.sum()

        counts: tuple[Array, Array] = jax.lax.map(one, episodes, batch_size=_EPISODES_AT_ONCE)
        return counts

    count_right = of_share
    if mesh is not None and mesh.size > 1:
        whole, parts = PartitionSpec(), PartitionSpec(DATA_AXIS)
        count_right = jax.shard_map(
            of_share, mesh=mesh, in_specs=(whole, whole, whole, parts), out_specs=parts,
            check_vma=False,
        )  # fmt: skip

    @jax.jit
    def validate(params: Params, validation: Validation) -> Float[Array, ""]:
        support, query, episodes = validation
        shared = episodes if mesh is None else _filled(episodes, mesh.size)
        right, count = count_right(params, support, query, shared)
        return 100 * right.sum() / jnp.maximum(count.sum(), 1)

    return validate


def _filled(episodes: Episode, devices: int) -> Episode:
    """Add episodes without queries, that count nothing, until the devices can share them."""
    lacking = -len(episodes.classes) % devices
    fill = jax.tree.map(
        lambda leaf: jnp.concatenate([leaf, jnp.repeat(leaf[:1], lacking, axis=0)]), episodes
    )
    real = jnp.arange(len(fill.classes)) < len(episodes.classes)
    return fill._replace(query_mask=fill.query_mask & real[:, None, None])
