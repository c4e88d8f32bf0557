"""The fixed episodes that a run is judged by, and the accuracy on them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from fsclip_jax.adapters.base import Adapter, query_logits
from fsclip_jax.devices import DATA_AXIS
from fsclip_jax.episodes.gather import gather_query, gather_support, mean_view
from fsclip_jax.episodes.sampler import (
    Episode,
    sample_across,
    sample_episode,
    usable_classes,
)
from fsclip_jax.episodes.task import Query
from fsclip_jax.features.bank import StoredBank, largest_class
from fsclip_jax.training.config import Placement, TrainConfig
from fsclip_jax.training.step import LOGITS, sum_by_parts
from fsclip_jax.training.tasks import EpisodeSource, episode_plan, episode_source
from fsclip_jax.typing import Array, Float, Params, PRNGKeyArray

_VAL_SEED = 20
"""The validation episodes are the same whatever the seed of the run."""

_EPISODES_AT_ONCE = 8
"""Validation episodes that are in memory together."""


class Validation(NamedTuple):
    """Fixed episodes on classes that are never trained on.

    Queries are the val images where there are any. ``episodes`` are indices into the two sources,
    with a leading axis of episodes.
    """

    support: EpisodeSource
    query: EpisodeSource
    episodes: Episode


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
    sources = [
        episode_source(stored, name, class_ids, patches=patches, placement=placement)
        for name in names
    ]
    support, query = sources[0].bank, sources[-1].bank
    across = len(sources) == 2
    usable = (support.sizes > 0) & (query.sizes > 0) if across else usable_classes(support)
    if int(usable.sum()) < 2:
        return None
    plan = episode_plan(support, config, int(usable.sum()))
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
    source = EpisodeSource(few, mean_view(few) if len(few.features) > 1 else None)
    return source, jnp.asarray(places.reshape(index.shape), jnp.int32)


def _has_images(stored: StoredBank, split: str, class_ids: np.ndarray) -> bool:
    number = ("train", "val").index(split)
    return bool(((stored.splits == number) & np.isin(stored.labels, class_ids)).any())


def make_validate(
    adapter: Adapter, mesh: Mesh | None = None, most: int = LOGITS
) -> Callable[[Params, Validation], Float[Array, ""]]:
    """Compile ``validate(params, validation)``: percent of the queries classified rightly.

    The episodes are split over the devices of the mesh, each of which has no more than ``most``
    logits in memory.
    """
    share = most // _EPISODES_AT_ONCE

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

            def sums(query: Query) -> tuple[Array, Array]:
                right = query_logits(adapter, state, query).argmax(-1) == query.labels
                return (right & query.mask).sum(), query.mask.sum()

            each: tuple = sum_by_parts(sums, queries, len(episode.classes), share)
            return each

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
