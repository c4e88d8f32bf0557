"""Fitting and classifying on the device, in pieces that fit into memory, with honest timings."""

import math
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import Adapter
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.typing import Array, Float, Int, Params, State

PIECE = 2**24
"""Numbers in the largest array that a piece of the work makes: 64 MB in float32."""


@dataclass(frozen=True)
class Answers:
    """What a method answered.

    Attributes:
        predictions: predicted place in the label space, int32 [draw query], by group.
        fit_seconds: time to fit one task.
        predict_us_per_query: microseconds to classify one image, by group.
    """

    predictions: Mapping[str, Int[np.ndarray, "draw query"]]
    fit_seconds: float
    predict_us_per_query: Mapping[str, float]


class Engine:
    """Compiled functions, kept for the next call of equal shapes, and the time they take.

    Methods that differ in parameters only, and numbers of shots that do not change the shape of
    what was fitted, share one compile.
    """

    def __init__(self) -> None:
        self._compiled: dict[Hashable, Callable[..., Any]] = {}

    def run(self, name: Hashable, function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
        """Run a function that is pure and the same for the same name.

        Args:
            name: what the function is, all that it closes over included.
            function: to be compiled where neither name nor shapes were seen before.
            *args: its arguments, pytrees of arrays.

        Returns:
            What it returns, and the seconds it ran, without compiling.
        """
        leaves, tree = jax.tree.flatten(args)
        place = name, tree, tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
        if place not in self._compiled:
            self._compiled[place] = jax.jit(function).lower(*args).compile()
        jax.block_until_ready(args)
        start = time.perf_counter()
        out = jax.block_until_ready(self._compiled[place](*args))
        return out, time.perf_counter() - start


def answer(
    engine: Engine,
    adapter: Adapter,
    params: Params,
    task: Task,
    queries: Mapping[str, Query],
    *,
    params_per_draw: bool = False,
) -> Answers:
    """Fit a method to every draw and classify the queries.

    The draws are worked on in batches and the queries in chunks, so that memory does not grow
    with their number.

    Args:
        engine: keeps what was compiled.
        adapter: the method.
        params: its parameters; with a leading axis of draws if ``params_per_draw``.
        task: tasks with a leading axis of draws.
        queries: images to classify, by group: the same for all draws [query dim], or each draw's
            own [draw query dim].
        params_per_draw: whether every draw has parameters of its own.

    Returns:
        The predictions and the timings.
    """
    draws, way, shot, dim = task.support.shape
    batch = min(draws, max(1, PIECE // (way * shot * dim)))
    most = max(1, PIECE // (batch * way * shot))
    fit = jax.vmap(adapter.fit, in_axes=(0 if params_per_draw else None, 0, None))
    key = jax.random.key(0)
    seconds: dict[str, float] = dict.fromkeys(queries, 0.0)
    fit_seconds = 0.0
    found: dict[str, list[np.ndarray]] = {name: [] for name in queries}
    for first in range(0, draws, batch):
        rows = np.minimum(np.arange(first, first + batch), draws - 1)
        mine = _take(params, rows) if params_per_draw else params
        state, took = engine.run(
            ("fit", adapter, params_per_draw), fit, mine, _take(task, rows), key
        )
        fit_seconds += took
        for name, query in queries.items():
            shared = query.features.ndim == 2
            features = query.features if shared else query.features[rows]
            size = chunk_size(features.shape[-2], most)
            best, took = engine.run(
                ("predict", adapter, size, shared),
                jax.vmap(partial(_classify, adapter, size), in_axes=(0, None if shared else 0)),
                state,
                features,
            )
            seconds[name] += took
            found[name].append(np.asarray(best)[: draws - first])
    worked = math.ceil(draws / batch) * batch
    return Answers(
        predictions={name: np.concatenate(parts) for name, parts in found.items()},
        fit_seconds=fit_seconds / worked,
        predict_us_per_query={
            name: 1e6 * seconds[name] / (worked * query.features.shape[-2])
            for name, query in queries.items()
        },
    )


def _take(tree: Any, rows: np.ndarray) -> Any:
    return jax.tree.map(lambda leaf: leaf[rows], tree)


def _classify(
    adapter: Adapter, size: int, state: State, features: Float[Array, "query dim"]
) -> Int[Array, " query"]:
    """Classify the queries of one draw in chunks of ``size``."""
    count, dim = features.shape
    chunks = -(-count // size)
    padded = jnp.pad(features, ((0, chunks * size - count), (0, 0)))
    best = jax.lax.map(
        lambda chunk: jnp.argmax(adapter.logits(state, chunk), axis=-1).astype(jnp.int32),
        padded.reshape(chunks, size, dim),
    )
    return best.reshape(-1)[:count]


def chunk_size(count: int, most: int) -> int:
    """Return the size of equal chunks of at most ``most``.

    Example:
        >>> chunk_size(10, 4), chunk_size(3, 100)
        (4, 3)
    """
    chunks = -(-count // most)
    return -(-count // chunks)
