"""Ridge regression of the labels on the features: the support, and nothing of the text."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import Grid, Scalars, init_scalars
from fsclip_jax.episodes.task import Task
from fsclip_jax.typing import Array, Float, Params, PRNGKeyArray, State


@dataclass(frozen=True)
class Ridge:
    """Closed-form linear classifier, ``logit_scale (f . v_c + b_c)``.

    With the shots as the rows of ``X``, their one-hot labels as the rows of ``Y``, and ``Xc``,
    ``Yc`` both less their means ``x``, ``y``::

        V = (Xc^T Xc + penalty I)^-1 Xc^T Yc        b = y - x V

    A control: what the images alone say to a linear classifier. A class with no shot is never
    predicted; a task with no shot at all keeps the text features as its weights, without text 0.

    ``params``: ``penalty``; its default is the best of the grid on Caltech val.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(Ridge()).shape
        (6, 3)

    Source: Hoerl and Kennard, "Ridge Regression", Technometrics 1970; as a few-shot control in
    Kolesnikov et al., "Big Transfer (BiT)", section 4.
    """

    name: ClassVar[str] = "ridge"
    scalars: ClassVar[Scalars] = {"penalty": 0.1}
    """The default penalty."""
    without_text: ClassVar[Params] = {}
    init = init_scalars
    classes_meet: ClassVar[bool] = True
    grid: ClassVar[Grid] = Grid(refit={"penalty": (0.001, 0.01, 0.1, 1.0, 10.0)})

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Solve for the weights."""
        del key
        kept = task.support_mask.astype(jnp.float32)
        shots = task.support.astype(jnp.float32)
        count = jnp.maximum(kept.sum(), 1)
        mean = jnp.einsum("wsd,ws->d", shots, kept) / count
        centred = (shots - mean[None, None]) * kept[..., None]
        gram = jnp.einsum("wsd,wse->de", centred, centred)
        gram += params["penalty"] * jnp.eye(mean.shape[0])
        # The centred shots sum to zero, so the mean of the labels drops out of Xc^T Yc.
        factor = jax.scipy.linalg.cho_factor(gram, lower=True)
        weights = jax.scipy.linalg.cho_solve(factor, centred.sum(1).T).T
        bias = kept.sum(1) / count - weights @ mean
        any_shot = task.support_mask.any()
        return {
            "weights": jnp.where(any_shot, weights, task.text.astype(jnp.float32)),
            "bias": jnp.where(any_shot, bias, 0.0),
            "logit_scale": task.logit_scale,
        }

    def logits(self, state: State, query: Float[Array, "query dim"]) -> Float[Array, "query way"]:
        """Return the scaled regression of every label on every query."""
        regression = query.astype(jnp.float32) @ state["weights"].T + state["bias"][None]
        return state["logit_scale"] * regression
