"""From indices to features: the task an adapter is fitted to, and its queries."""

from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp

from fsclip_jax.episodes.draw import below
from fsclip_jax.episodes.sampler import Episode
from fsclip_jax.episodes.task import Prompts, Query, Task
from fsclip_jax.features.bank import Bank
from fsclip_jax.numerics import l2_normalize, namespace_of
from fsclip_jax.typing import Array, Bool, Float, Int, PRNGKeyArray

View: TypeAlias = Literal["first", "mean", "random"]
"""Which view of an image: the plain centre crop, the mean of all views, or a random one."""


def mean_view(bank: Bank) -> Float[Any, "n dim"]:
    """Mean of all views of each image, scaled to unit length.

    Computed once outside a training step, it saves reading every view in each step.
    """
    return (
        bank.features[0]
        if len(bank.features) == 1
        else l2_normalize(jnp.asarray(bank.features).mean(0))
    )


def gather(
    bank: Bank,
    episode: Episode,
    *,
    support_view: View = "mean",
    query_view: View = "first",
    key: PRNGKeyArray | None = None,
    mean: Float[Any, "n dim"] | None = None,
) -> tuple[Task, Query]:
    """Read the features of one episode; use ``jax.vmap`` for a batch.

    The defaults are those of evaluation. A training step may take ``"random"`` views.

    Args:
        key: randomness of the views; needed for ``"random"`` where there are several views.
        mean: `mean_view` of the bank; computed from the rows that are read where not given.

    Example:
        >>> from fsclip_jax.episodes.sampler import EpisodeSpec, sample_episode
        >>> bank = Bank(jnp.ones((1, 6, 1)), jnp.repeat(jnp.arange(2), 3), jnp.array([0, 3]),
        ...             jnp.array([3, 3]), -jnp.ones(6, int), jnp.ones((2, 1)), jnp.float32(100))
        >>> episode = sample_episode(jax.random.key(0), bank, EpisodeSpec(2, 1, 2), 3)
        >>> task, query = gather(bank, episode)
        >>> query.labels.tolist()
        [0, 0, 1, 1]
    """
    support_key, query_key = (None, None) if key is None else jax.random.split(key)
    task = gather_support(
        bank,
        episode.classes,
        episode.support,
        episode.support_mask,
        view=support_view,
        key=support_key,
        mean=mean,
    )
    query = gather_query(
        bank, episode.query, episode.query_mask, view=query_view, key=query_key, mean=mean
    )
    return task, query


def gather_support(
    bank: Bank,
    classes: Int[Any, " way"],
    index: Int[Any, "way shot"],
    mask: Bool[Any, "way shot"],
    *,
    view: View = "mean",
    key: PRNGKeyArray | None = None,
    mean: Float[Any, "n dim"] | None = None,
    views: bool = False,
) -> Task:
    """Read the support images, the texts and, where the bank has them, the prompts of classes.

    With ``views`` every view of the images stands beside the support, if there are several.
    """
    support = _read(bank, index, mask, view, key, mean)
    task = Task(support, mask, bank.text[classes], bank.logit_scale)
    if views and len(bank.features) > 1:
        xp = namespace_of(bank.features)
        every = xp.moveaxis(bank.features[:, index], 0, -2).astype(xp.float32)
        task = task._replace(views=xp.where(mask[..., None, None], every, xp.float32(0)))
    if bank.prompts is not None:
        vectors = bank.prompts[classes]
        # A bank made in memory may come without the mask: rows of zeros are no prompts then.
        known = bank.prompt_mask
        present = (vectors != 0).any(axis=-1) if known is None else known[classes]
        xp = namespace_of(vectors)
        task = task._replace(prompts=Prompts(xp.where(present[..., None], vectors, 0), present))
    if bank.text_lengths is not None:
        task = task._replace(text_lengths=bank.text_lengths[classes])
    return task


def gather_query(
    bank: Bank,
    index: Int[Array, "way query"],
    mask: Bool[Array, "way query"],
    *,
    view: View = "first",
    key: PRNGKeyArray | None = None,
    mean: Float[Any, "n dim"] | None = None,
) -> Query:
    """Read the query images, class after class.

    Masked rows are zero. Patches, where the bank carries them, are those of view 0 whatever the
    view.
    """
    way, query = index.shape
    features = _read(bank, index, mask, view, key, mean)
    labels = jnp.repeat(jnp.arange(way, dtype=jnp.int32), query)
    patches = gather_patches(bank, index, mask)
    if patches is not None:
        patches = patches.reshape(way * query, *patches.shape[2:])
    return Query(features.reshape(way * query, -1), labels, mask.reshape(-1), patches)


def gather_patches(
    bank: Bank,
    index: Int[Any, "way slot"],
    mask: Bool[Any, "way slot"],
) -> Float[Any, "way slot patch dim"] | None:
    """Read the patches of images."""
    if bank.patches is None:
        return None
    xp = namespace_of(bank.patches)
    kept: Array = xp.where(mask[..., None, None], bank.patches[index], 0)
    return kept


def _read(
    bank: Bank, index: Any, mask: Any, view: View, key: PRNGKeyArray | None, mean: Any
) -> Float[Any, "way slot dim"]:
    views, images, dim = bank.features.shape
    if views == 1 or view == "first":
        rows = bank.features[0][index]
    elif view == "mean":
        rows = (
            l2_normalize(jnp.asarray(bank.features)[:, index].mean(0))
            if mean is None
            else mean[index]
        )
    elif key is None:
        raise ValueError("random views need a key")
    else:
        chosen = below(jax.random.bits(key, (index.size,)), jnp.int32(views)).reshape(index.shape)
        rows = bank.features.reshape(views * images, dim)[chosen * images + index]
    xp = namespace_of(rows)
    kept: Array = xp.where(mask[..., None], rows.astype(xp.float32), xp.float32(0))
    return kept
