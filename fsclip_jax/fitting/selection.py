"""Choosing searched scalars: on val images, or on shots held out of the support; never on test."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import Adapter, grids_of, setting_of
from fsclip_jax.adapters.search import count_right, grid_settings
from fsclip_jax.episodes.task import Query, Task, take_tasks
from fsclip_jax.fitting.draws import Draws
from fsclip_jax.fitting.engine import Engine, fit_key
from fsclip_jax.numerics import namespace_of
from fsclip_jax.typing import Array, Bool, Int, Params

MOST_FOLDS = 4
"""Parts that the shots are split into, at most, to be held out in turn."""

ENOUGH_HELD_OUT = 1_000
"""Images after which no further part is held out: a choice among settings needs no more, and
with many classes every part costs as much as the fit that it serves."""


class Choice(NamedTuple):
    """The parameters that a method is evaluated with.

    Attributes:
        per_draw: whether every draw chose for itself.
    """

    params: Params
    per_draw: bool
    record: dict[str, Any]


SelectOn: TypeAlias = Literal["val", "shots", "none"]
"""What settings are chosen on: val images, shots held out of the support, or nothing."""


class Val(NamedTuple):
    """Images to choose settings on.

    Attributes:
        query: the images, the same for all draws or each draw's own; labels as in the task.
    """

    task: Task
    query: Query
    rule: str
    split: str = "val"


def fixed(adapter: Adapter, params: Params, why: str, task: Task) -> Choice:
    """Keep the setting that a method comes with, for a reason that the report tells."""
    told = {**params, **setting_of(adapter, params, task)}
    values = {name: float(told[name]) for grid in grids_of(adapter)[:1] for name in grid.names}
    return Choice(params, False, {"split": "none", "rule": why, **values})


def select_on(
    engine: Engine, adapter: Adapter, params: Params, val: Val, *, together: bool = False
) -> Choice:
    """Choose the setting that classifies most of the given images right.

    Among equal settings the first of the grid is taken. Every draw chooses for itself, unless
    ``together``: then one setting serves all (for episodes, whose tasks are too small to choose
    on one by one).
    """
    counts = _counts(engine, adapter, params, val.task, val.query)
    return _choose(adapter, params, counts, val.split, val.rule, together)


def select_held_out(
    engine: Engine, adapter: Adapter, params: Params, draws: Draws, *, together: bool = False
) -> Choice:
    """Choose by cross-validation within the support; needs no other labelled image.

    The shots are split into as many folds as there are, at most ``MOST_FOLDS``: fold ``f`` holds
    out the shots ``f, f + folds, ...`` of every class, asks them, and leaves the others as the
    support. Shots of the same artist family as one held out are left out too. No further fold
    is held out once every choice rests on ``ENOUGH_HELD_OUT`` images. With one shot there is
    nothing to hold out, and the fixed setting stays.
    """
    shots = draws.task.support.shape[2]
    if shots < 2:
        return fixed(adapter, params, "a single shot leaves none to hold out", draws.task)
    tasks, way = draws.task.text.shape[:2]
    folds, held_out = min(shots, MOST_FOLDS), 0
    counts: list[Int[np.ndarray, "draw setting"]] = []
    while len(counts) < folds and held_out < ENOUGH_HELD_OUT:
        held = np.arange(shots) % folds == len(counts)
        counts.append(_counts(engine, adapter, params, *hold_out(draws, held)))
        held_out += int(held.sum()) * way * (tasks if together else 1)
    rule = f"shots of the support held out in turn, {len(counts)} of {folds} folds"
    return _choose(adapter, params, np.sum(counts, axis=0), "train", rule, together)


def hold_out(draws: Draws, held: Bool[np.ndarray, " shot"]) -> tuple[Task, Query]:
    """Take some shots of every class out of the support and make them queries.

    Returns:
        Tasks without those shots (others of their family are masked), and their images as
        queries. Classes that would be left without support give none.
    """
    task, way = draws.task, draws.task.text.shape[1]
    xp = namespace_of(task.support)
    kept = xp.asarray(kept_without(draws, held)[:, :, ~held])
    present = task.support_mask[:, :, held] & kept.any(-1, keepdims=True)
    labels = xp.broadcast_to(xp.arange(way, dtype=xp.int32)[None, :, None], present.shape)
    support = xp.where(kept[..., None], task.support[:, :, ~held], 0)
    rest = task._replace(support=support, support_mask=kept)
    if task.views is not None:
        views = xp.where(kept[..., None, None], task.views[:, :, ~held], 0)
        rest = rest._replace(views=views)

    def flat(array: Any) -> Any:
        return array.reshape(array.shape[0], -1, *array.shape[3:])

    return rest, Query(flat(draws.plain[:, :, held]), flat(labels), flat(present))


def kept_without(
    draws: Draws, held: Bool[np.ndarray, " shot"]
) -> Bool[np.ndarray, "draw way shot"]:
    """Say which images stay in the support where some shots are held out: none of their family."""
    every = np.asarray(draws.domains)
    domains = every[:, :, None, held]
    relative = ((every[..., None] == domains) & (domains >= 0)).any(-1)
    return np.asarray(np.asarray(draws.task.support_mask) & ~relative & ~held)


def _counts(
    engine: Engine, adapter: Adapter, params: Params, task: Task, query: Query
) -> Int[np.ndarray, "draw setting"]:
    """Right answers of every setting, draw by draw."""
    shared = query.features.ndim == 2

    def every(params: Params, task: Task, query: Query) -> Int[Array, "draw setting"]:
        def one(draw: Array) -> Int[Array, " setting"]:
            own = query if shared else jax.tree.map(lambda leaf: leaf[draw], query)
            return count_right(adapter, params, take_tasks(task, draw), own, fit_key(draw))

        return jax.lax.map(one, jnp.arange(task.text.shape[0]))

    counts, _ = engine.run(("search", adapter, shared), every, params, task, query)
    return np.asarray(counts)


def _choose(
    adapter: Adapter,
    params: Params,
    counts: Int[np.ndarray, "draw setting"],
    split: str,
    rule: str,
    together: bool,
) -> Choice:
    if together:
        counts = counts.sum(axis=0, keepdims=True)
    best = counts.argmax(axis=1)
    chosen: Mapping[str, np.ndarray] = {
        name: values[best] for name, values in grid_settings(adapter).items()
    }
    record: dict[str, Any] = {"split": split, "rule": rule, "settings_tried": counts.shape[1]}
    for name, values in chosen.items():
        listed = [round(float(value), 6) for value in values]
        record[name] = listed[0] if together else listed
    if together:
        found = {name: np.asarray(values[0], np.float32) for name, values in chosen.items()}
        return Choice({**params, **found}, False, record)
    rest = {name: leaf for name, leaf in params.items() if name not in chosen}
    repeated = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(best), *leaf.shape)), rest)
    found = {name: np.asarray(values, np.float32) for name, values in chosen.items()}
    return Choice({**repeated, **found}, True, record)
