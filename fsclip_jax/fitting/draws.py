"""Repeated draws of a support, as methods are fitted to them."""

from typing import Any, NamedTuple

import numpy as np

from fsclip_jax.episodes.gather import gather_patches, gather_support, mean_view
from fsclip_jax.episodes.task import Task, take_tasks
from fsclip_jax.features.bank import Bank
from fsclip_jax.numerics import namespace_of
from fsclip_jax.typing import Array, Bool, Float, Int


class Draws(NamedTuple):
    """Repeated draws of the support of one label space, at the largest number of shots.

    Draws are nested: the first ``K`` shots of a class are its ``K``-shot support.

    Attributes:
        plain: the support images as they would be asked (view 0); for holding shots out.
        domains: artist family of each support image, -1 where the data has none.
        rows: row of each support image in the class-sorted bank that it was drawn from, -1 for
            none; where the bank is known.
    """

    task: Task
    plain: Float[Array, "draw way shot dim"]
    domains: Int[Array, "draw way shot"]
    patches: Float[Array, "draw way shot patch dim"] | None = None
    rows: Int[Array, "draw way shot"] | None = None


def truncate(draws: Draws, shots: int) -> Draws:
    """Return the draws with the first ``shots`` of each class only."""
    task, views, patches, rows = draws.task, draws.task.views, draws.patches, draws.rows
    task = task._replace(
        support=task.support[:, :, :shots],
        support_mask=task.support_mask[:, :, :shots],
        views=None if views is None else views[:, :, :shots],
    )
    return Draws(
        task,
        draws.plain[:, :, :shots],
        draws.domains[:, :, :shots],
        None if patches is None else patches[:, :, :shots],
        None if rows is None else rows[:, :, :shots],
    )


def keep_first(draws: Draws, counts: Int[np.ndarray, "draw way"]) -> Draws:
    """Return the draws with the first shots of each class only, so many as its count says."""
    draws = truncate(draws, int(counts.max()))
    xp = namespace_of(draws.plain)
    kept = xp.asarray(np.arange(counts.max()) < counts[..., None])

    def only(leaf: Any, empty: int = 0) -> Any:
        return xp.where(kept.reshape(kept.shape + (1,) * (leaf.ndim - 3)), leaf, empty)

    task, views, patches, rows = draws.task, draws.task.views, draws.patches, draws.rows
    task = task._replace(
        support=only(task.support),
        support_mask=task.support_mask & kept,
        views=None if views is None else only(views),
    )
    return Draws(
        task,
        only(draws.plain),
        only(draws.domains, -1),
        None if patches is None else only(patches),
        None if rows is None else only(rows, -1),
    )


def first_draw(draws: Draws) -> Draws:
    """Return the first draw alone, still with an axis of draws."""
    return Draws(
        take_tasks(draws.task, np.arange(1)),
        draws.plain[:1],
        draws.domains[:1],
        None if draws.patches is None else draws.patches[:1],
        None if draws.rows is None else draws.rows[:1],
    )


def draws_of(task: Task) -> Draws:
    """Return tasks with a leading axis of draws, of images that have one view and no family."""
    none = namespace_of(task.support).full(task.support_mask.shape, -1, np.int32)
    return Draws(task, task.support, none)


def gather_draw(
    bank: Bank,
    classes: Int[Any, " way"],
    index: Int[Any, "way shot"],
    mask: Bool[Any, "way shot"],
    mean: Float[Any, "n dim"] | None = None,
) -> Draws:
    """Read one draw of a support, without an axis of draws.

    Args:
        mean: mean over the views of every image, if it is at hand.
    """
    mean, xp = mean_view(bank) if mean is None else mean, namespace_of(bank.features)
    return Draws(
        task=gather_support(bank, classes, index, mask, mean=mean, views=True),
        plain=gather_support(bank, classes, index, mask, view="first").support,
        domains=xp.where(mask, bank.domains[index], -1),
        patches=gather_patches(bank, index, mask),
        rows=xp.where(mask, index, -1),
    )
