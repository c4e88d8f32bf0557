"""Choosing searched scalars: on val images, or on shots held out of the support; never on test."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import Adapter
from fsclip_jax.adapters.text_prototype import UNTRAINED_GATE, TextPrototype
from fsclip_jax.adapters.tip_search import TipGrid, search_tip
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.evaluation.draws import Draws
from fsclip_jax.evaluation.engine import Engine
from fsclip_jax.typing import Array, Float, Int, Params

GATES = tuple(float(gate) for gate in UNTRAINED_GATE * 2.0 ** (np.arange(-8, 13) / 2))
"""Gates of ``text_prototype`` that are tried: the untrained one times 2^(k/2), 0.05 to 47."""


@dataclass(frozen=True)
class Search:
    """How the scalars of a method are searched.

    Attributes:
        grid: value of every scalar in every setting, as flat arrays of equal length.
        count: number of queries that each setting classifies right; one task, no batch axis.
    """

    grid: Mapping[str, Float[np.ndarray, " setting"]]
    count: Callable[[Task, Query], Int[Array, " setting"]]


def _count_gates(task: Task, query: Query) -> Int[Array, " setting"]:
    adapter, key = TextPrototype(), jax.random.key(0)

    def right(gate: Array) -> Array:
        state = adapter.fit({"gate": gate}, task, key)
        best = jnp.argmax(adapter.logits(state, query.features), axis=-1)
        return jnp.sum((best == query.labels) & query.mask, dtype=jnp.int32)

    return jax.lax.map(right, jnp.asarray(GATES, jnp.float32))


TIP_GRIDS = (TipGrid(7.0, 3.0), TipGrid(50.0, 50.0))
"""Published grids of ``tip_adapter``, 200 betas by 20 alphas each: that of ImageNet and the widest.

The published code has a scale of its own for every data set. Here val chooses between the
narrowest and the widest of them, so that no data set is favoured by hand.
"""


def _tip_values() -> dict[str, Float[np.ndarray, " setting"]]:
    pairs = [np.meshgrid(grid.betas, grid.alphas, indexing="ij") for grid in TIP_GRIDS]
    betas, alphas = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    return {"alpha": alphas.astype(np.float32), "beta": betas.astype(np.float32)}


def _count_tip(task: Task, query: Query) -> Int[Array, " setting"]:
    return jnp.concatenate([search_tip(task, query, grid).ravel() for grid in TIP_GRIDS])


SEARCHED: Mapping[str, Search] = {
    "tip_adapter": Search(_tip_values(), _count_tip),
    "text_prototype": Search({"gate": np.asarray(GATES, np.float32)}, _count_gates),
}
"""Methods whose parameters are searched and not learned."""


class Choice(NamedTuple):
    """The parameters that a method is evaluated with.

    Attributes:
        params: with a leading axis of draws if ``per_draw``.
        per_draw: whether every draw chose for itself.
        record: what was chosen and on which images, for the report.
    """

    params: Params
    per_draw: bool
    record: dict[str, Any]


def fixed(adapter: Adapter, params: Params, why: str) -> Choice:
    """Keep the setting that a method comes with.

    Args:
        adapter: the method.
        params: its scalars.
        why: the reason, for the report.

    Returns:
        The choice.
    """
    values = {name: float(params[name]) for name in SEARCHED[adapter.name].grid}
    return Choice(params, False, {"split": "none", "rule": why, **values})


def select_on(
    engine: Engine, adapter: Adapter, task: Task, query: Query, rule: str, *, together: bool = False
) -> Choice:
    """Choose the setting that classifies most of the given images right.

    Among equal settings the first of the grid is taken. Every draw chooses for itself, unless
    ``together``: then one setting serves all (for episodes, whose tasks are too small to choose
    on one by one).

    Args:
        engine: keeps what was compiled.
        adapter: a method with searched scalars.
        task: tasks with a leading axis of draws.
        query: val images, the same for all draws or each draw's own; labels as in the task.
        rule: how it was chosen, for the report.
        together: choose one setting for all draws.

    Returns:
        The choice.
    """
    search = SEARCHED[adapter.name]
    return _choose(
        search, np.asarray(_counts(engine, adapter.name, task, query)), "val", rule, together
    )


def select_held_out(
    engine: Engine, adapter: Adapter, params: Params, draws: Draws, *, together: bool = False
) -> Choice:
    """Choose on shots of the support, each held out in turn; for data without val images.

    For every shot ``k``, the ``k``-th shots of all classes are asked and the others are the
    support. Shots of the same artist family as the one held out are left out too. With one shot
    there is nothing to hold out, and the fixed setting stays.

    Args:
        engine: keeps what was compiled.
        adapter: a method with searched scalars.
        params: its fixed setting.
        draws: the support.
        together: choose one setting for all draws.

    Returns:
        The choice.
    """
    shots = draws.task.support.shape[2]
    if shots < 2:
        return fixed(adapter, params, "no val images, and a single shot leaves none to hold out")
    search = SEARCHED[adapter.name]
    rule = "each shot of the support held out in turn"
    folds = [_counts(engine, adapter.name, *hold_out(draws, shot)) for shot in range(shots)]
    return _choose(search, np.sum(folds, axis=0), "train", rule, together)


def hold_out(draws: Draws, shot: int) -> tuple[Task, Query]:
    """Take one shot of every class out of the support and ask for it.

    Args:
        draws: the support, two shots or more.
        shot: which one.

    Returns:
        Tasks without that shot (and without others of its family), and its images as queries.
        Classes that would be left without support are not asked.
    """
    task, way = draws.task, draws.task.text.shape[1]
    own = draws.domains[:, :, shot, None]
    relative = (draws.domains == own) & (own >= 0)
    kept = task.support_mask & ~relative & (jnp.arange(task.support.shape[2]) != shot)[None, None]
    asked = task.support_mask[:, :, shot] & kept.any(-1)
    labels = jnp.broadcast_to(jnp.arange(way, dtype=jnp.int32)[None], asked.shape)
    support = jnp.where(kept[..., None], task.support, 0)
    rest = task._replace(support=support, support_mask=kept)
    return rest, Query(draws.plain[:, :, shot], labels, asked)


def _counts(engine: Engine, name: str, task: Task, query: Query) -> np.ndarray:
    """Right answers of every setting, draw by draw: int32 [draw setting]."""
    count = SEARCHED[name].count
    shared = query.features.ndim == 2

    def every(task: Task, query: Query) -> Array:
        if shared:
            return jax.lax.map(lambda one: count(one, query), task)
        return jax.lax.map(lambda pair: count(*pair), (task, query))

    counts, _ = engine.run(("search", name, shared), every, task, query)
    return np.asarray(counts)


def _choose(
    search: Search, counts: Int[np.ndarray, "draw setting"], split: str, rule: str, together: bool
) -> Choice:
    if together:
        counts = counts.sum(axis=0, keepdims=True)
    best = counts.argmax(axis=1)
    chosen = {name: values[best] for name, values in search.grid.items()}
    record: dict[str, Any] = {"split": split, "rule": rule, "settings_tried": counts.shape[1]}
    for name, values in chosen.items():
        listed = [round(float(value), 6) for value in values]
        record[name] = listed[0] if together else listed
    params = {name: jnp.asarray(values, jnp.float32) for name, values in chosen.items()}
    if together:
        return Choice(jax.tree.map(lambda leaf: leaf[0], params), False, record)
    return Choice(params, True, record)
