"""The loss of a batch of episodes, and several optimiser steps in one compiled call."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from fsclip_jax.adapters.base import Adapter, query_logits
from fsclip_jax.devices import DATA_AXIS, replicated
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.training.config import TrainConfig, learning_rate, meta_optimizer
from fsclip_jax.training.state import TrainState
from fsclip_jax.typing import Array, Float, Key, Params, PRNGKeyArray


class StepMetrics(NamedTuple):
    """What one step reports."""

    loss: Float[Array, "*steps"]
    accuracy: Float[Array, "*steps"]
    grad_norm: Float[Array, "*steps"]
    lr: Float[Array, "*steps"]


LOGITS = 2**26
"""Logits of an episode, 256 MB, above which its queries are classified part by part."""

MultiStep = Callable[..., tuple[TrainState, StepMetrics]]
"""See `make_multi_step`."""


def episode_loss(
    adapter: Adapter,
    params: Params,
    task: Task,
    query: Query,
    key: PRNGKeyArray,
    most: int = LOGITS,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Cross entropy and accuracy of one episode, means over the query images that are present.

    ``-sum_i m_i log softmax(logits_i)[label_i] / sum_i m_i``, in nats, and percent; both are 0
    where no query is present. No more than ``most`` logits are in memory, nor any kept for the
    gradient, where there are more; the sums are then taken in another order.
    """
    state = adapter.fit(params, task, key)

    def sums(query: Query) -> tuple[Array, Array, Array]:
        logits = query_logits(adapter, state, query)
        kept = query.mask.astype(logits.dtype)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, query.labels)
        right = (logits.argmax(-1) == query.labels).astype(logits.dtype)
        return (losses * kept).sum(), (right * kept).sum(), kept.sum()

    loss, right, count = sum_by_parts(sums, query, task.text.shape[0], most)
    count = jnp.maximum(count, 1)
    return loss / count, 100 * right / count


def sum_by_parts(sums: Callable[[Query], Any], query: Query, ways: int, most: int) -> Any:
    """Return what ``sums`` adds up over the queries, of no more than ``most`` logits at a time."""
    if len(query.labels) * ways <= most:
        return sums(query)
    each = jax.lax.map(jax.checkpoint(sums), in_parts(query, max(1, most // ways)))
    return jax.tree.map(lambda part: part.sum(0), each)


def in_parts(query: Query, size: int) -> Query:
    """Cut queries into parts of a size, with an axis of parts; what fills the last one is masked.

    Example:
        >>> query = Query(jnp.ones((3, 2)), jnp.zeros(3, int), jnp.ones(3, bool))
        >>> in_parts(query, 2).mask.tolist()
        [[True, True], [True, False]]
    """
    lacking = -len(query.labels) % size

    def cut(leaf: Array) -> Array:
        filled = jnp.pad(leaf, ((0, lacking), *((0, 0),) * (leaf.ndim - 1)))
        return filled.reshape(-1, size, *leaf.shape[1:])

    parts: Query = jax.tree.map(cut, query)
    return parts


def batch_loss(
    adapter: Adapter, params: Params, task: Task, query: Query, keys: Key[Array, " batch"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean of `episode_loss` over episodes, the leading axis of tasks, queries and keys."""
    one = jax.vmap(lambda t, q, k: episode_loss(adapter, params, t, q, k))
    loss, accuracy = one(task, query, keys)
    return loss.mean(), accuracy.mean()


def loss_and_grads(
    adapter: Adapter, mesh: Mesh | None = None
) -> Callable[..., tuple[Array, Array, Params]]:
    """Return the function of `batch_loss`'s arguments that gives it with its gradients.

    Every device computes those of its share. They are brought together before they are added, in
    the order of the devices: what adds on the way does so in an order of its own, other within a
    process than between two.
    """
    platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform

    def of_share(params: Params, *episodes: Any) -> tuple:
        if platform == "cpu":
            return _one_by_one(adapter, params, *episodes)
        (loss, accuracy), grads = jax.value_and_grad(
            lambda params: batch_loss(adapter, params, *episodes), has_aux=True
        )(params)
        return loss, accuracy, grads

    if mesh is None or mesh.size == 1:
        return of_share
    shares = jax.shard_map(
        lambda *given: jax.tree.map(lambda leaf: leaf[None], of_share(*given)),
        mesh=mesh,
        in_specs=(PartitionSpec(), *[PartitionSpec(DATA_AXIS)] * 3),
        out_specs=PartitionSpec(DATA_AXIS),
        check_vma=False,
    )

    def of_all(*given: Any) -> tuple:
        together = jax.lax.with_sharding_constraint(shares(*given), replicated(mesh))
        means: tuple = jax.tree.map(lambda leaf: leaf.mean(0), together)
        return means

    return of_all


def _one_by_one(adapter: Adapter, params: Params, *episodes: Any) -> tuple:
    """Add up losses and gradients of one episode after the other, and divide by their number.

    Of several at once XLA on a CPU transposes what goes into the gradient of a weight, element by
    element and with all that it is computed from: a step of one Meta-Adapter's episode took 2.5
    times as long (1,000 classes).
    """
    one = jax.value_and_grad(lambda *given: episode_loss(adapter, *given), has_aux=True)
    count = len(episodes[-1])

    def add(sums: tuple, episode: tuple) -> tuple[tuple, None]:
        return jax.tree.map(jnp.add, sums, one(params, *episode)), None

    if count == 1:  # nothing to add up, nor to copy out of a whole batch
        (loss, accuracy), grads = one(params, *jax.tree.map(lambda leaf: leaf[0], episodes))
        return loss, accuracy, grads
    none = (jnp.zeros(()), jnp.zeros(())), jax.tree.map(jnp.zeros_like, params)
    sums, _ = jax.lax.scan(add, none, episodes)
    (loss, accuracy), grads = jax.tree.map(lambda leaf: leaf / count, sums)
    return loss, accuracy, grads


def make_multi_step(
    adapter: Adapter,
    config: TrainConfig,
    sample: Callable[..., tuple[Task, Query]],
    mesh: Mesh | None = None,
) -> MultiStep:
    """Compile ``steps`` optimiser steps into one call.

    The episodes of step i are those of ``fold_in(key, i)`` whatever the number of devices, of
    steps in a call, or of restarts.

    Args:
        sample: ``sample(key, *data) -> (Task, Query)``, a batch of episodes, already split over
            the devices of the mesh.
        mesh: the devices; parameters are kept whole on each. None: the default device.

    Returns:
        ``multi_step(state, key, data, steps=n) -> (state, metrics)``: n is static, ``data`` is
        a tuple of device pytrees that is handed to ``sample``, the metrics have a leading axis
        of n. The memory of the state that goes in is used again.
    """
    optimizer, rate = meta_optimizer(config), learning_rate(config)
    of_batch = loss_and_grads(adapter, mesh)

    def one_step(state: TrainState, key: PRNGKeyArray, data: tuple) -> tuple:
        episodes, fits = jax.random.split(jax.random.fold_in(key, state.step))
        task, query = sample(episodes, *data)
        keys = jax.random.split(fits, config.batch)
        loss, accuracy, grads = of_batch(state.params, task, query, keys)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = StepMetrics(loss, accuracy, optax.tree.norm(grads), rate(state.step))
        return TrainState(state.step + 1, params, opt_state), metrics

    def multi_step(state: TrainState, key: PRNGKeyArray, data: tuple, *, steps: int) -> tuple:
        return jax.lax.scan(lambda s, _: one_step(s, key, data), state, length=steps)

    whole = None if mesh is None else replicated(mesh)
    return jax.jit(multi_step, static_argnames="steps", donate_argnums=0, out_shardings=whole)
