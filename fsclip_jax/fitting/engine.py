"""Fitting and classifying on the device, in pieces that fit into memory, with honest timings."""

import math
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import Adapter, query_logits
from fsclip_jax.episodes.task import Query, Task, take_tasks, task_axes
from fsclip_jax.typing import Array, Key, Params, PRNGKeyArray, State

PIECE = 2**24
"""Numbers in the largest array that a piece of the work makes: 64 MB in float32."""

FITS = 2**20
"""Support numbers of the tasks that are fitted together. Small tasks are quicker side by side,
large ones one after the other."""


class Told(NamedTuple):
    """What a method says of every query, arrays [draw query] on the host or [query] on the device.

    Attributes:
        predictions: predicted place in the label space, int32.
        confidence: probability of the predicted class.
        surprise: negative log-probability of the true class, in nats.
    """

    predictions: Any
    confidence: Any
    surprise: Any


@dataclass(frozen=True)
class Answers:
    """What a method answered, and what it cost.

    Attributes:
        told: the answers, by group.
        fit_seconds: time to fit one task.
        predict_us_per_query: microseconds to classify one image, by group.
        state_bytes: size of what one fit leaves for classifying.
    """

    told: Mapping[str, Told]
    fit_seconds: float
    predict_us_per_query: Mapping[str, float]
    state_bytes: int


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


def fit_key(draw: Array | int) -> PRNGKeyArray:
    """Return the key that a method is fitted to a draw with: the same in search and answer."""
    return jax.random.fold_in(jax.random.key(0), draw)


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
        The answers and what they cost.
    """
    draws, way, shot, dim = task.support.shape
    batch = min(draws, max(1, FITS // (way * shot * dim)))
    if getattr(adapter, "one_by_one", False):
        batch = 1
    most = max(1, PIECE // (batch * way * shot))
    axes = (0 if params_per_draw else None, task_axes(task), 0)
    seconds: dict[str, float] = dict.fromkeys(queries, 0.0)
    fit_seconds, state_bytes = 0.0, 0
    found: dict[str, list[Told]] = {name: [] for name in queries}
    for first in range(0, draws, batch):
        rows = np.minimum(np.arange(first, first + batch), draws - 1)
        mine = jax.tree.map(lambda leaf, at=rows: leaf[at], params) if params_per_draw else params
        keys: Key[Array, " batch"] = jax.vmap(fit_key)(jnp.asarray(rows))
        state, took = engine.run(
            ("fit", adapter, params_per_draw),
            jax.vmap(adapter.fit, in_axes=axes),
            mine,
            take_tasks(task, rows),
            keys,
        )
        fit_seconds += took
        state_bytes = _bytes(state) // batch
        for name, query in queries.items():
            shared = query.features.ndim == 2
            asked = query if shared else jax.tree.map(lambda leaf, at=rows: leaf[at], query)
            size = chunk_size(asked.labels.shape[-1], most)
            told, took = engine.run(
                ("predict", adapter, size, shared),
                jax.vmap(partial(_classify, adapter, size), in_axes=(0, None if shared else 0)),
                state,
                asked,
            )
            seconds[name] += took
            kept = draws - first
            found[name].append(Told(*(np.asarray(part)[:kept] for part in told)))
    worked = math.ceil(draws / batch) * batch
    return Answers(
        told={
            name: Told(*(np.concatenate(part) for part in zip(*parts, strict=True)))
            for name, parts in found.items()
        },
        fit_seconds=fit_seconds / worked,
        predict_us_per_query={
            name: 1e6 * seconds[name] / (worked * query.features.shape[-2])
            for name, query in queries.items()
        },
        state_bytes=state_bytes,
    )


def _bytes(state: State) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def _classify(adapter: Adapter, size: int, state: State, query: Query) -> Told:
    """Classify the queries of one draw in chunks of ``size``."""
    count = query.labels.shape[0]
    chunks = -(-count // size)

    def in_chunks(leaf: Array) -> Array:
        padding = [(0, chunks * size - count)] + [(0, 0)] * (leaf.ndim - 1)
        return jnp.pad(leaf, padding).reshape(chunks, size, *leaf.shape[1:])

    def one(chunk: Query) -> Told:
        log = jax.nn.log_softmax(query_logits(adapter, state, chunk).astype(jnp.float32), axis=-1)
        log = jnp.minimum(log, 0)  # rounding may make a probability a little more than one
        true = jnp.take_along_axis(log, chunk.labels[:, None], axis=-1)[:, 0]
        return Told(jnp.argmax(log, axis=-1).astype(jnp.int32), jnp.exp(log.max(-1)), -true)

    told = jax.lax.map(one, jax.tree.map(in_chunks, query))
    return Told(*(part.reshape(-1)[:count] for part in told))


def chunk_size(count: int, most: int) -> int:
    """Return the size of equal chunks of at most ``most``.

    Example:
        >>> chunk_size(10, 4), chunk_size(3, 100)
        (4, 3)
    """
    chunks = -(-count // most)
    return -(-count // chunks)
