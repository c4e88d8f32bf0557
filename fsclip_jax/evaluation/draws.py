"""The draws of an evaluation: the support of each, and the images that are asked."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.data.splits import SPLITS
from fsclip_jax.episodes.gather import (
    gather_query,
    mean_view,
)
from fsclip_jax.episodes.sampler import EpisodeSpec, sample_across, sample_support
from fsclip_jax.episodes.task import Query
from fsclip_jax.evaluation.label_spaces import Group, LabelSpace
from fsclip_jax.features.bank import Bank, StoredBank, largest_class
from fsclip_jax.fitting.draws import Draws, gather_draw
from fsclip_jax.typing import Array, Int, PRNGKeyArray


def draw_supports(
    key: PRNGKeyArray, bank: Bank, space: LabelSpace, shots: int, seeds: int
) -> Draws:
    """Draw the support of a label space once per seed; seed ``i`` uses ``fold_in(key, i)``.

    The draw of a class depends on the seed and on the class alone: a class has the same shots in
    every label space and protocol. The task carries every view of the shots where the bank has
    several, and the prompts where it has them.
    """
    classes, mean = jnp.asarray(space.classes, jnp.int32), mean_view(bank)
    size = largest_class(bank)
    each = [_draw_support(key, i, bank, mean, classes, shots, size) for i in range(seeds)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)


@partial(jax.jit, static_argnames=("shots", "size"))
def _draw_support(
    key: PRNGKeyArray,
    seed: Array | int,
    bank: Bank,
    mean: Array,
    classes: Array,
    shots: int,
    size: int,
) -> Draws:
    index, mask = sample_support(jax.random.fold_in(key, seed), bank, classes, shots, size)
    return gather_draw(bank, classes, index, mask, mean)


def queries_of(
    stored: StoredBank, split: str, space: LabelSpace, group: Group, *, patches: bool = False
) -> Query:
    """Read view 0 of all images of a group, labelled by the place of their class in the space."""
    bank = stored.select([split], group.classes, patches=patches)
    place = jnp.asarray(np.searchsorted(space.classes, group.classes), jnp.int32)
    seen = jnp.ones(bank.labels.shape, bool)
    return Query(bank.features[0], place[bank.labels], seen, bank.patches)


def bank_rows(
    stored: StoredBank, splits: Sequence[str], classes: np.ndarray | None = None
) -> Int[np.ndarray, " n"]:
    """Say which stored image each row of ``stored.select(splits, classes)`` is."""
    ids = np.arange(len(stored.class_names)) if classes is None else np.asarray(classes)
    place = np.full(len(stored.class_names), -1)
    place[ids] = np.arange(len(ids))
    order = place[stored.labels]
    wanted = np.isin(stored.splits, [SPLITS.index(name) for name in splits])
    rows = np.flatnonzero(wanted & (order >= 0))
    return rows[np.argsort(order[rows], kind="stable")]


def draw_episodes(
    key: PRNGKeyArray, support_bank: Bank, query_bank: Bank, spec: EpisodeSpec, episodes: int
) -> tuple[Draws, Query]:
    """Draw episodes: shots from one bank, queries from another; ``i`` uses ``fold_in(key, i)``."""
    size = max(largest_class(support_bank), largest_class(query_bank))
    numbers, mean = jnp.arange(episodes), mean_view(support_bank)
    return _draw_episodes(key, numbers, support_bank, query_bank, mean, spec, size)


@partial(jax.jit, static_argnames=("spec", "size"))
def _draw_episodes(
    key: PRNGKeyArray,
    numbers: Array,
    support_bank: Bank,
    query_bank: Bank,
    mean: Array,
    spec: EpisodeSpec,
    size: int,
) -> tuple[Draws, Query]:
    def draw(number: Array) -> tuple[Draws, Query]:
        own = jax.random.fold_in(key, number)
        episode = sample_across(own, support_bank, query_bank, spec, size)
        draws = gather_draw(
            support_bank, episode.classes, episode.support, episode.support_mask, mean
        )
        return draws, gather_query(query_bank, episode.query, episode.query_mask)

    return jax.vmap(draw)(numbers)
