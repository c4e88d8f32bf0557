"""Where the episodes of a run come from: those it learns from, and the fixed ones that judge it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from fsclip_jax.data.splits import base_novel, meta_val
from fsclip_jax.devices import batch_sharding
from fsclip_jax.episodes.check import check_shots
from fsclip_jax.episodes.gather import gather, gather_support, mean_view
from fsclip_jax.episodes.sampler import (
    Episode,
    EpisodeSpec,
    sample_batch,
    usable_classes,
)
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.errors import UserError
from fsclip_jax.features.bank import Bank, StoredBank, largest_class
from fsclip_jax.features.rows import BankRows
from fsclip_jax.training.config import Placement, TrainConfig
from fsclip_jax.typing import Array, Float, Int, PRNGKeyArray

_VAL_SEED = 20
"""The validation episodes are the same whatever the seed of the run."""

_EPISODES_AT_ONCE = 8
"""Validation episodes that are in memory together."""


class EpisodeSource(NamedTuple):
    """A bank to draw from, on the device, and the mean over the views of each image.

    Attributes:
        bank: without a row of features where these do not lie whole on every device.
        of_views: the mean; None where an image has one view, which is its own.
        rows: reads the features that are not in the bank.
    """

    bank: Bank
    of_views: Float[Array, "n dim"] | None = None
    rows: BankRows | None = None

    @property
    def mean(self) -> Float[Array, "n dim"]:
        """Unit vectors: the support of an episode, in training as in evaluation."""
        return mean_view(self.bank) if self.of_views is None else self.of_views


class EpisodePlan(NamedTuple):
    """What is static about the episodes of a bank.

    ``max_size`` is the number of images of the largest class, ``families`` whether the images
    have families.
    """

    spec: EpisodeSpec
    max_size: int
    families: bool


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


def episode_source(
    stored: StoredBank,
    split: str,
    class_ids: np.ndarray,
    *,
    patches: bool = False,
    placement: Placement = "replicated",
) -> EpisodeSource:
    """Select the images of a split and of classes, with their features if these lie whole."""
    whole = placement == "replicated"
    bank = stored.select((split,), class_ids, patches=patches, features=whole)
    if whole:
        return EpisodeSource(bank, mean_view(bank) if stored.views > 1 else None)
    return EpisodeSource(bank, rows=BankRows(stored, stored.sorted_rows((split,), class_ids)[0]))


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
    source = episode_source(stored, "train", class_ids, patches=patches, placement=placement)
    bank = source.bank
    names = tuple(stored.class_names[int(label)] for label in class_ids)
    if stored.domains is None:
        check_shots(bank, config.min_shot or config.shot, names, spare=1)
    return source, episode_plan(bank, config, int(usable_classes(bank).sum()))


def episode_plan(bank: Bank, config: TrainConfig, usable: int) -> EpisodePlan:
    """Plan episodes of as many of the usable classes as the configuration asks for."""
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


def rows_of(episodes: Episode) -> Int[Array, "batch rows"]:
    """Return the rows that every episode reads: its support, then its queries."""
    batch = len(episodes.support)
    return jnp.concatenate(
        [episodes.support.reshape(batch, -1), episodes.query.reshape(batch, -1)], axis=1
    )


def _in_own_bank(bank: Bank, episode: Episode, rows: Float[Array, "view rows dim"]) -> tuple:
    """Return a bank of an episode's own rows, and the episode as it lies there."""
    shots = episode.support.size
    places = jnp.arange(shots + episode.query.size, dtype=jnp.int32)
    own = episode._replace(
        support=places[:shots].reshape(episode.support.shape),
        query=places[shots:].reshape(episode.query.shape),
    )
    return bank._replace(features=rows), own


def make_reader(
    batch: int, mesh: Mesh | None = None
) -> Callable[[PRNGKeyArray, Bank, Episode, Array], tuple[Task, Query]]:
    """Return the function that makes the tasks of drawn episodes from rows that were read for them.

    ``read(key, bank, episodes, rows) -> (Task, Query)``, what `make_sampler` gives for the same
    key; the rows are [batch view rows dim] in the order of `rows_of`.
    """

    def one(bank: Bank, episode: Episode, key: PRNGKeyArray, rows: Array) -> tuple[Task, Query]:
        own, places = _in_own_bank(bank, episode, rows)
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
