"""What changes while an adapter is meta-trained, and the rule by which it changes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import Adapter
from fsclip_jax.episodes.task import Task
from fsclip_jax.training.config import TrainConfig, meta_optimizer
from fsclip_jax.typing import Array, Int, Params, PRNGKeyArray


class TrainState(NamedTuple):
    """All that a training step reads and writes; ``step`` is the number of steps done."""

    step: Int[Array, ""]
    params: Params
    opt_state: Any


class Keys(NamedTuple):
    """Where the randomness of a run comes from. Nothing else is random, so a step can be redone.

    Attributes:
        episodes: the episodes of step i come from ``fold_in(episodes, i)``.
    """

    init: PRNGKeyArray
    episodes: PRNGKeyArray


def run_keys(seed: int) -> Keys:
    """Derive the keys of a run from its seed, an integer of 32 bits.

    Example:
        >>> a, b = run_keys(0), run_keys(0)
        >>> bool((a.init == b.init).all()), bool((a.init == a.episodes).all())
        (True, False)
    """
    return Keys(*jax.random.split(jax.random.key(seed)))


def init_state(adapter: Adapter, dim: int, config: TrainConfig) -> TrainState:
    """Make the state before the first step; the seed of the run decides the starting values."""
    params = jax.tree.map(jnp.asarray, adapter.init(run_keys(config.seed).init, dim))
    return TrainState(jnp.zeros((), jnp.int32), params, meta_optimizer(config).init(params))


def can_prime(adapter: Adapter) -> bool:
    """Say whether a method starts from statistics of the classes that it is trained on."""
    return hasattr(adapter, "prime")


def prime(adapter: Adapter, state: TrainState, task: Task) -> TrainState:
    """Let a method read closed-form statistics off the training classes before the first step.

    A method that wants to has a function ``prime(params, task) -> params`` of the same structure;
    the task is of all classes to train on, with all their training images.
    """
    if not can_prime(adapter):
        return state
    primed: Params = adapter.prime(state.params, task)  # type: ignore[attr-defined]
    return state._replace(params=primed)
