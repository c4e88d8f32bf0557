"""How many queries every setting of a method's searched scalars classifies right."""

import itertools
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import Adapter, Grid, grids_of, query_logits
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.typing import Array, Bool, Float, Int, Params, PRNGKeyArray, State

BLOCK = 2**22
"""Logits that are in memory together, over all settings that share a fit: 16 MB in float32."""


def grid_settings(adapter: Adapter) -> dict[str, Float[np.ndarray, " setting"]]:
    """List the settings of a method, grid after grid, the last scalar of a grid fastest.

    Values of every searched scalar; empty if nothing is searched.

    Raises:
        ValueError: two grids of the method name different scalars.

    Example:
        >>> from fsclip_jax.adapters.catalog import get_adapter
        >>> settings = grid_settings(get_adapter("tip_adapter"))
        >>> {name: len(values) for name, values in settings.items()}
        {'beta': 8000, 'alpha': 8000}
    """
    grids = grids_of(adapter)
    if not grids:
        return {}
    names = grids[0].names
    if any(grid.names != names for grid in grids):
        raise ValueError(f"the grids of {adapter.name} name different scalars")
    rows = [row for grid in grids for row in itertools.product(*_values(grid))]
    columns = np.asarray(rows, np.float32).T
    return dict(zip(names, columns, strict=True))


def _values(grid: Grid) -> list[tuple[float, ...]]:
    return [*grid.refit.values(), *grid.late.values()]


def count_right(
    adapter: Adapter, params: Params, task: Task, query: Query, key: PRNGKeyArray
) -> Int[Array, " setting"]:
    """Count the queries that a method classifies right at every setting of its grids.

    A method that knows a cheaper way has a function of this name of its own. Otherwise it is
    fitted once for every value of the ``refit`` scalars, one after the other; each fit then
    answers for all values of the ``late`` scalars together, in blocks of queries, and whatever
    does not depend on a scalar is computed once for all its values. One program does it all.

    Masked queries count nowhere; the searched scalars of ``params`` are replaced. In the order of
    :func:`grid_settings`.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_task, get_adapter
        >>> task, query = example_task(way=3)
        >>> adapter = get_adapter("text_prototype")
        >>> counts = count_right(adapter, {}, task, query, jax.random.key(0))
        >>> counts.shape == grid_settings(adapter)["gate"].shape
        True
    """
    own: Any = getattr(adapter, "count_right", None)
    if own is not None:
        counts: Int[Array, " setting"] = own(params, task, query, key)
        return counts
    parts = [_count_grid(adapter, grid, params, task, query, key) for grid in grids_of(adapter)]
    return jnp.concatenate(parts)


def _count_grid(
    adapter: Adapter, grid: Grid, params: Params, task: Task, query: Query, key: PRNGKeyArray
) -> Int[Array, " setting"]:
    def after_a_fit(values: Mapping[str, Array]) -> Int[Array, " late"]:
        state = adapter.fit({**params, **values}, task, key)
        return count_late(adapter, grid, state, query)

    refit = np.asarray(list(itertools.product(*grid.refit.values())), np.float32)
    start = {name: jnp.float32(values[0]) for name, values in grid.late.items()}
    columns = dict(zip(grid.refit, jnp.asarray(refit).T, strict=True))
    if not columns:
        return after_a_fit(start)
    return jax.lax.map(lambda values: after_a_fit({**start, **values}), columns).reshape(-1)


def count_late(adapter: Adapter, grid: Grid, state: State, query: Query) -> Int[Array, " late"]:
    """Count the queries that one fit classifies right at every value of late scalars.

    The late scalars of the grid are leaves of the state; the refit ones are not looked at. Masked
    queries count nowhere. The last scalar is the fastest.
    """
    names = tuple(grid.late)
    way = jax.eval_shape(partial(query_logits, adapter), state, query).shape[-1]
    number = math.prod(len(values) for values in grid.late.values())

    def right(block: Query, *values: Array) -> Int[Array, ""]:
        logits = query_logits(adapter, {**state, **dict(zip(names, values, strict=True))}, block)
        return jnp.sum(answers_right(logits, block.labels) & block.mask, dtype=jnp.int32)

    every = right
    for place in reversed(range(len(names))):
        axes = [None] * (1 + len(names))
        axes[1 + place] = 0  # type: ignore[call-overload]
        every = jax.vmap(every, in_axes=tuple(axes))

    late = [jnp.asarray(values, jnp.float32) for values in grid.late.values()]
    blocks = in_blocks(query, number * way)
    counts = jax.lax.map(lambda block: every(block, *late), blocks)
    return counts.sum(0).reshape(-1)


def answers_right(
    logits: Float[Array, "*batch query way"], labels: Int[Array, " query"]
) -> Bool[Array, "*batch query"]:
    """Say where the label has the largest logit, the first of equal ones, as ``argmax`` does.

    On a CPU comparing takes a sixth of the time of ``argmax``. What is not a number is not right.

    Example:
        >>> answers_right(jnp.array([[1.0, 2.0], [3.0, 3.0]]), jnp.array([1, 1])).tolist()
        [True, False]
    """
    labels = jnp.broadcast_to(labels[:, None], (*logits.shape[:-1], 1))
    own = jnp.take_along_axis(logits, labels, axis=-1)
    place = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    # The label is not compared with itself: a compiler may compute its logit twice, and round.
    ahead = (own > logits) | ((own == logits) & (place > labels)) | (place == labels)
    return jnp.all(ahead, axis=-1)


def in_blocks(query: Query, logits: int) -> Query:
    """Cut queries into blocks, with a leading axis; one query makes so many logits.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_task
        >>> in_blocks(example_task(query=20)[1], BLOCK // 8).labels.shape
        (3, 8)
    """
    count = query.labels.shape[0]
    size = min(count, max(8, BLOCK // logits))

    def cut(leaf: Array) -> Array:
        padding = [(0, -count % size)] + [(0, 0)] * (leaf.ndim - 1)
        return jnp.pad(leaf, padding).reshape(-1, size, *leaf.shape[1:])

    blocks: Query = jax.tree.map(cut, query)
    return blocks
