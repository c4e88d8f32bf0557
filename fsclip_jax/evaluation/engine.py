"""Fitting and classifying on the device, in pieces that fit into memory, with honest timings."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import Adapter
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.typing import Array, Float, Int, Params

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


def answer(
    adapter: Adapter,
    params: Params,
    task: Task,
    queries: Mapping[str, Query],
    *,
    params_per_draw: bool = False,
) -> Answers:
    """Fit a method to every draw and classify the queries.

    Each function is compiled before its time is taken. The draws are worked on in batches and
    the queries in chunks, so that memory does not grow with their number.

    Args:
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
    key = jax.random.key(0)
    axes = (0 if params_per_draw else None, 0, None)
    fit = _Timed(jax.vmap(adapter.fit, in_axes=axes))
    predict = {
        name: _Timed(_classifier(adapter, query, batch, way * shot))
        for name, query in queries.items()
    }
    found: dict[str, list[np.ndarray]] = {name: [] for name in queries}
    for first in range(0, draws, batch):
        rows = jnp.minimum(first + jnp.arange(batch), draws - 1)
        state = fit(_take(params, rows) if params_per_draw else params, _take(task, rows), key)
        for name, query in queries.items():
            shared = query.features.ndim == 2
            features = query.features if shared else query.features[rows]
            found[name].append(np.asarray(predict[name](state, features))[: draws - first])
    worked = math.ceil(draws / batch) * batch
    return Answers(
        predictions={name: np.concatenate(parts) for name, parts in found.items()},
        fit_seconds=fit.seconds / worked,
        predict_us_per_query={
            name: 1e6 * predict[name].seconds / (worked * query.features.shape[-2])
            for name, query in queries.items()
        },
    )


def _take(tree: Any, rows: Array) -> Any:
    return jax.tree.map(lambda leaf: leaf[rows], tree)


def _classifier(
    adapter: Adapter, query: Query, batch: int, width: int
) -> Callable[[Any, Array], Array]:
    """A function of fitted states and query features, vectorised over the draws."""
    shared = query.features.ndim == 2
    size = chunk_size(query.features.shape[-2], max(1, PIECE // (batch * width)))

    def classify(state: Any, features: Float[Array, "query dim"]) -> Int[Array, " query"]:
        count, dim = features.shape
        chunks = -(-count // size)
        padded = jnp.pad(features, ((0, chunks * size - count), (0, 0)))
        best = jax.lax.map(
            lambda chunk: jnp.argmax(adapter.logits(state, chunk), axis=-1).astype(jnp.int32),
            padded.reshape(chunks, size, dim),
        )
        return best.reshape(-1)[:count]

    return jax.vmap(classify, in_axes=(0, None if shared else 0))


def chunk_size(count: int, most: int) -> int:
    """Return the size of equal chunks of at most ``most``.

    Example:
        >>> chunk_size(10, 4), chunk_size(3, 100)
        (4, 3)
    """
    chunks = -(-count // most)
    return -(-count // chunks)


class _Timed:
    """A function that is compiled at its first call; ``seconds`` sums the time of running it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = jax.jit(function)
        self.compiled: Callable[..., Any] | None = None
        self.seconds = 0.0

    def __call__(self, *args: Any) -> Any:
        if self.compiled is None:
            self.compiled = self.function.lower(*args).compile()
        jax.block_until_ready(args)
        start = time.perf_counter()
        out = jax.block_until_ready(self.compiled(*args))
        self.seconds += time.perf_counter() - start
        return out
