"""Probabilities that mean what they say: a temperature from shots that were held out."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize_scalar

from fsclip_jax.adapters.base import Adapter
from fsclip_jax.episodes.task import Query, Task, take_tasks
from fsclip_jax.fitting.draws import Draws
from fsclip_jax.fitting.engine import fit_key
from fsclip_jax.fitting.selection import MOST_FOLDS, hold_out
from fsclip_jax.typing import Array, Bool, Float, Int, Params

LOWEST, HIGHEST = 0.05, 20.0
"""Bounds of the temperature."""

ENOUGH = 20
"""Held-out images below which the temperature stays 1: fewer say too little."""


class Temperature(NamedTuple):
    """What the logits are divided by before the softmax."""

    value: float
    """1 changes nothing."""
    images: int
    """Held-out images that it was fitted to; 0 if there were too few."""
    before: float | None = None
    """Mean negative log-likelihood of these images at temperature 1, in nats."""
    after: float | None = None
    """The same at the temperature."""


def fit_temperature(
    logits: Float[np.ndarray, "n way"], labels: Int[np.ndarray, " n"]
) -> Temperature:
    """Find the temperature that minimises the negative log-likelihood.

    ``T = argmin_T -mean log softmax(logits / T)[label]``, between 0.05 and 20.

    The logits are of images that the classifier was not fitted to; where these are fewer than
    ``ENOUGH``, the temperature is 1.

    Example:
        >>> logits = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]]).repeat(10, 0)
        >>> labels = np.array([0, 0, 0, 1]).repeat(10)
        >>> round(fit_temperature(logits, labels).value, 2)  # 4 / log 3
        3.64

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    if len(labels) < ENOUGH:
        return Temperature(1.0, 0)

    def nll(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(log_temperature)
        scaled -= scaled.max(-1, keepdims=True)
        own = np.take_along_axis(scaled, labels[:, None], -1)[:, 0]
        return float(np.mean(np.log(np.exp(scaled).sum(-1)) - own))

    found = minimize_scalar(nll, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    before, after = nll(0.0), float(found.fun)
    if after >= before:
        return Temperature(1.0, len(labels), before, before)
    return Temperature(float(np.exp(found.x)), len(labels), before, after)


def held_out_logits(
    adapter: Adapter, params: Params, draws: Draws
) -> tuple[Float[np.ndarray, "n way"], Int[np.ndarray, " n"]]:
    """Classify shots of a draw by a fit to the other folds; there are none with a single shot."""
    way, shots = draws.task.support.shape[1:3]
    folds = min(shots, MOST_FOLDS)
    logits: list[np.ndarray] = [np.zeros((0, way), np.float32)]
    labels: list[np.ndarray] = [np.zeros(0, np.int32)]
    for fold in range(folds if shots > 1 else 0):
        task, query = hold_out(draws, np.arange(shots) % folds == fold)
        rest: Task = take_tasks(task, 0)
        queries: Query = jax.tree.map(lambda leaf: leaf[0], query)
        found = np.asarray(_classify(adapter, params, rest, queries.features))
        kept: Bool[np.ndarray, " n"] = np.asarray(queries.mask)
        logits.append(found[kept])
        labels.append(np.asarray(queries.labels)[kept])
    return np.concatenate(logits), np.concatenate(labels)


@partial(jax.jit, static_argnums=0)
def _classify(adapter: Adapter, params: Params, task: Task, features: Array) -> Any:
    state = adapter.fit(params, task, fit_key(0))
    return adapter.logits(state, features).astype(jnp.float32)
