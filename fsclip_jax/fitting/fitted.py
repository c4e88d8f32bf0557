"""A method and a support in, a classifier out: the one place where methods are fitted and asked.

The draws of a support are fitted in batches and the queries classified in chunks, so that memory
grows with the number of neither.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import Adapter, most_searched, query_logits
from fsclip_jax.devices import over_devices
from fsclip_jax.episodes.task import Query, Task, take_tasks, task_axes
from fsclip_jax.features.buckets import padded
from fsclip_jax.fitting.draws import Draws
from fsclip_jax.fitting.engine import Engine, fit_key, process_engine
from fsclip_jax.fitting.methods import Method
from fsclip_jax.fitting.selection import (
    Choice,
    SelectOn,
    Val,
    fixed,
    select_held_out,
    select_on,
)
from fsclip_jax.typing import Array, Float, Int, Params, State

PIECE = 2**24
"""Numbers in the largest array that a piece of the work makes: 64 MB in float32."""

FITS = 2**20
"""Support numbers of the tasks that are fitted together. Small tasks are quicker side by side,
large ones one after the other."""


class Predictions(NamedTuple):
    """What a method predicts for every query, arrays [draw query]; of one draw [query].

    Attributes:
        nll: negative log-probability of the true class, in nats.
    """

    predicted: Any
    confidence: Any
    nll: Any


@dataclass(frozen=True)
class Fitted:
    """A method fitted to draws of a support.

    Attributes:
        state: what its ``fit`` returned, with a leading axis of draws.
        draws: how many of them; the last ones of a batch may repeat a draw and do not count.
        fit_seconds: time to fit one draw, without compiling.
    """

    method: Method
    choice: Choice
    state: State
    draws: int
    fit_seconds: float

    @property
    def rows(self) -> int:
        """Length of the axis of draws, those that do not count included."""
        return len(jax.tree.leaves(self.state)[0])

    @property
    def state_bytes(self) -> int:
        """Size of what one fit leaves for classifying."""
        leaves = jax.tree.leaves(self.state)
        return sum(leaf.size * leaf.dtype.itemsize // len(leaf) for leaf in leaves)

    def draw(self, number: int) -> "Fitted":
        """Return one draw alone, still with an axis of draws."""
        state = jax.tree.map(lambda leaf: leaf[number : number + 1], self.state)
        return Fitted(self.method, self.choice, state, 1, self.fit_seconds)


FIT_COSTS: Mapping[str, Callable[[Fitted], float]] = {
    "fit_seconds": lambda fitted: fitted.fit_seconds,
    "state_bytes": lambda fitted: fitted.state_bytes,
}
"""What a fit costs, by the names of ``report.metrics.METRICS``; every comparison measures it."""


def fit_costs(fitted: Sequence[Fitted]) -> dict[str, np.ndarray]:
    """Add up what fits cost that serve one answer together, such as those of several windows."""
    return {name: np.asarray(sum(map(cost, fitted))) for name, cost in FIT_COSTS.items()}


@dataclass(frozen=True)
class Asked:
    """What a method predicts for groups of queries, by group, and what the fit of a draw costs."""

    predictions: Mapping[str, Predictions]
    costs: Mapping[str, np.ndarray]
    predict_us_per_query: Mapping[str, float]


def choose_setting(
    engine: Engine,
    method: Method,
    draws: Draws,
    select: SelectOn = "val",
    val: Val | None = None,
    *,
    together: bool = False,
) -> Choice:
    """Choose the parameters that a method is fitted with.

    Args:
        select: ``val``: on the images of ``val``, or as ``shots`` where there are none. ``shots``:
            by cross-validation within the support. ``none``: the setting that the method has.
    """
    if not method.searched:
        return Choice(method.params, False, dict(method.origin))
    if select == "none":
        return fixed(method.adapter, method.params, "one setting for all data", draws.task)
    if (shots := most_searched(method.adapter)) and draws.task.support_mask[0].sum() > shots:
        why = f"more than {shots:,} shots in all: its own setting, a search would take hours"
        return fixed(method.adapter, method.params, why, draws.task)
    if select == "shots" or val is None or not val.query.labels.size:
        return select_held_out(engine, method.adapter, method.params, draws, together=together)
    return select_on(engine, method.adapter, method.params, val, together=together)


def fit(engine: Engine, method: Method, choice: Choice, task: Task) -> Fitted:
    """Fit a method to all draws of a support; see :func:`fit_in_batches`."""
    batches = list(fit_in_batches(engine, method, choice, task))
    state = batches[0].state
    if len(batches) > 1:
        states = [jax.tree.map(lambda leaf, n=b.draws: leaf[:n], b.state) for b in batches]
        state = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *states)
    seconds = float(np.mean([batch.fit_seconds for batch in batches]))
    return Fitted(method, choice, state, sum(batch.draws for batch in batches), seconds)


def fit_in_batches(engine: Engine, method: Method, choice: Choice, task: Task) -> Iterator[Fitted]:
    """Fit a method to the draws of a support, as many side by side as is quick."""
    firsts, batch = _batches(method, task)
    return (_fit_batch(engine, method, choice, task, first, batch) for first in firsts)


def _batches(method: Method, task: Task) -> tuple[range, int]:
    """The first draws of the batches, and how many are fitted side by side."""
    draws, way, shot, dim = task.support.shape
    batch = min(draws, max(1, FITS // (way * shot * dim)))
    if getattr(method.adapter, "one_by_one", False):
        batch = 1
    return range(0, draws, batch), batch


def _fit_batch(
    engine: Engine, method: Method, choice: Choice, task: Task, first: int, batch: int
) -> Fitted:
    adapter, draws = method.adapter, len(task.support)
    axes = (0 if choice.per_draw else None, task_axes(task), 0)
    rows = np.minimum(np.arange(first, first + batch), draws - 1)
    params = choice.params
    if choice.per_draw:
        params = jax.tree.map(lambda leaf: leaf[rows], params)

    def every(params: Params, task: Task, rows: Int[Array, " batch"]) -> State:
        keys = jax.vmap(fit_key)(rows)
        return jax.vmap(adapter.fit, in_axes=axes)(params, task, keys)

    args = params, take_tasks(task, rows), rows.astype(np.int32)
    state, seconds = engine.run(("fit", adapter, choice.per_draw), every, *args)
    return Fitted(method, choice, state, min(batch, draws - first), seconds / batch)


def fit_and_predict(
    engine: Engine, method: Method, choice: Choice, task: Task, queries: Mapping[str, Query]
) -> Asked:
    """Fit a method to every draw and classify the queries, a batch of draws a device.

    Args:
        queries: images to classify, by group: the same for all draws [query dim], or each draw's
            own [draw query dim].
    """
    firsts, batch = _batches(method, task)
    most = max(1, PIECE // (batch * task.support.shape[1] * task.support.shape[2]))

    def work(first: int) -> tuple[dict[str, float], dict[str, tuple[Predictions, float]]]:
        fitted = _fit_batch(engine, method, choice, task, first, batch)
        rows = np.minimum(np.arange(first, first + batch), len(task.text) - 1)
        asked = {
            name: _predict(engine, fitted, query, rows, most) for name, query in queries.items()
        }
        return {name: cost(fitted) for name, cost in FIT_COSTS.items()}, asked

    found: dict[str, list[Predictions]] = {name: [] for name in queries}
    seconds = dict.fromkeys(queries, 0.0)
    costs, worked = dict.fromkeys(FIT_COSTS, 0.0), 0
    for cost, asked in over_devices(work, firsts):
        for name, (predictions, took) in asked.items():
            seconds[name] += took
            found[name].append(predictions)
        costs = {name: costs[name] + batch * cost[name] for name in FIT_COSTS}
        worked += batch
    return Asked(
        {name: _joined(parts) for name, parts in found.items()},
        {name: np.asarray(cost / worked) for name, cost in costs.items()},
        {
            name: 1e6 * seconds[name] / (worked * query.features.shape[-2])
            for name, query in queries.items()
        },
    )


def _joined(parts: list[Predictions]) -> Predictions:
    return Predictions(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _predict(
    engine: Engine, fitted: Fitted, query: Query, rows: np.ndarray, most: int
) -> tuple[Predictions, float]:
    """Classify the queries of some draws, in chunks of at most ``most``."""
    adapter, shared = fitted.method.adapter, query.features.ndim == 2
    few = query if shared else jax.tree.map(lambda leaf: leaf[rows], query)
    size = chunk_size(few.labels.shape[-1], most)
    predictions, took = engine.run(
        ("predict", adapter, size, shared),
        jax.vmap(partial(_classify, adapter, size), in_axes=(0, None if shared else 0)),
        fitted.state,
        few,
    )
    return Predictions(*(np.asarray(part)[: fitted.draws] for part in predictions)), took


def _classify(adapter: Adapter, size: int, state: State, query: Query) -> Predictions:
    """Classify the queries of one draw in chunks of ``size``."""
    count = query.labels.shape[0]
    chunks = -(-count // size)

    def in_chunks(leaf: Array) -> Array:
        padding = [(0, chunks * size - count)] + [(0, 0)] * (leaf.ndim - 1)
        return jnp.pad(leaf, padding).reshape(chunks, size, *leaf.shape[1:])

    def one(chunk: Query) -> Predictions:
        log = jax.nn.log_softmax(query_logits(adapter, state, chunk).astype(jnp.float32), axis=-1)
        log = jnp.minimum(log, 0)  # rounding may make a probability a little more than one
        true = jnp.take_along_axis(log, chunk.labels[:, None], axis=-1)[:, 0]
        return Predictions(jnp.argmax(log, axis=-1).astype(jnp.int32), jnp.exp(log.max(-1)), -true)

    predictions = jax.lax.map(one, jax.tree.map(in_chunks, query))
    return Predictions(*(part.reshape(-1)[:count] for part in predictions))


def chunk_size(count: int, most: int) -> int:
    """Return the size of equal chunks of at most ``most``.

    Example:
        >>> chunk_size(10, 4), chunk_size(3, 100)
        (4, 3)
    """
    chunks = -(-count // most)
    return -(-count // chunks)


def logits_of(
    fitted: Fitted, features: Float[np.ndarray, "n dim"], at_once: int
) -> Float[np.ndarray, "draw n way"]:
    """Return the logits of every draw for features on the host.

    Args:
        at_once: features that are classified together. Always so many, the last ones padded, so
            that few shapes are compiled and the logits of one do not depend on its company.
    """
    return start_logits(fitted, features, at_once)()


def start_logits(
    fitted: Fitted, features: Float[np.ndarray, "n dim"], at_once: int
) -> Callable[[], Float[np.ndarray, "draw n way"]]:
    """Begin :func:`logits_of`; what is returned waits for the logits."""
    parts, adapter = [], fitted.method.adapter

    def every(state: State, features: Float[Array, "n dim"]) -> Float[Array, "draw n way"]:
        return jax.vmap(lambda one: adapter.logits(one, features).astype(jnp.float32))(state)

    for first in range(0, max(1, len(features)), at_once):
        some = padded(np.asarray(features[first : first + at_once], np.float32), at_once)
        args = fitted.state, some
        parts.append(process_engine().program(("logits", adapter), every, *args)(*args))

    def wait() -> Float[np.ndarray, "draw n way"]:
        found = [np.asarray(part)[: fitted.draws] for part in parts]
        return np.concatenate(found, axis=1)[:, : len(features)]

    return wait
