"""ProLIP: the last projection of the image tower is trained, and held near its start."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import Scalars, init_scalars
from fsclip_jax.adapters.descent import (
    Batch,
    Descent,
    Recipe,
    adam,
    affordable_epochs,
    cross_entropy,
    descend,
    support_rows,
)
from fsclip_jax.episodes.task import Task
from fsclip_jax.numerics import cosine_logits, l2_normalize
from fsclip_jax.typing import Array, Float, Params, PRNGKeyArray, Scalar, State

PUBLISHED_EPS = 1e-4


@dataclass(frozen=True)
class ProLip:
    """Zero-shot classifier on a trained projection, ``s t . normalise(x W + b)``.

    ``x`` is what the image tower pools before its last projection ``W_0``, ``b`` that of a
    ResNet's attention pooling, which stays. ``W`` starts at ``W_0`` and minimises the
    cross-entropy of the shots plus ``lambda |W - W_0|^2``, the sum of squares. Adam sees all
    shots in each step, in a random view.

    No validation: ``lambda = strength / K``, ``K`` the mean number of shots of the classes that
    have any; ``1 / K^2`` with ``squared``. Needs a bank of features before the projection,
    ``fsclip extract --features pre``.

    ``params``: the learning rate ``rate``, 0 gives zero-shot; ``strength``, as it grows the
    method approaches zero-shot.

    Attributes:
        squared: whether the strength falls with the square of the number of shots.
        epochs: steps; 300 is published.
        batch: most shots of a step; all, in the published code.
        most_logits: fewer steps are taken where steps, shots and classes multiply to more.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(ProLip(epochs=2)).shape
        (6, 3)

    Source: Fahes et al., "CLIP's Visual Embedding Projector is a Few-shot Cornucopia", sections 3
    and 4.2; optimiser and steps of its published code.
    """

    squared: bool = False
    epochs: int = 300
    batch: int = 16_384
    most_logits: int = 300_000_000

    name: ClassVar[str] = "prolip"
    needs: ClassVar[frozenset[str]] = frozenset({"projection"})
    scalars: ClassVar[Scalars] = {"rate": 1e-4, "strength": 1.0}
    init = init_scalars
    zero_shot_at: ClassVar[Params] = {"rate": 0.0}

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Train the projection."""
        return {
            "kernel": self.train(params, task, key).params,
            "bias": projection_of(task)[1],
            "text": task.text,
            "logit_scale": task.logit_scale,
        }

    def train(self, params: Params, task: Task, key: PRNGKeyArray) -> Descent:
        """Return the kernel of the projection and the losses."""
        rows, (start, bias) = support_rows(task), projection_of(task)
        text = task.text.astype(jnp.float32)
        held = params["strength"] / shots_of_a_class(task) ** (2 if self.squared else 1)

        def loss(kernel: Float[Array, "before dim"], batch: Batch) -> Scalar:
            seen = project(batch.features, kernel, bias)
            away = jnp.sum(jnp.square(kernel - start))
            return cross_entropy(cosine_logits(seen, text, task.logit_scale), batch) + held * away

        epochs = affordable_epochs(rows, text.shape[0], self.epochs, self.most_logits)
        recipe = Recipe(adam(PUBLISHED_EPS), epochs, self.batch)
        return descend(loss, start, rows, key, params["rate"], recipe)

    def logits(self, state: State, query: Float[Array, "query dim"]) -> Float[Array, "query way"]:
        """Project, and compare with the texts."""
        seen = project(query.astype(jnp.float32), state["kernel"], state["bias"])
        return cosine_logits(seen, state["text"].astype(jnp.float32), state["logit_scale"])


def projection_of(
    task: Task,
) -> tuple[Float[Array, "before dim"], Float[Array, " dim"]]:
    """Return kernel and bias of the projection that a task starts from, in float32.

    Raises:
        ValueError: its features are not those before the projection.
    """
    if task.projection is None:
        raise ValueError("the features of this task are not before the projection")
    kernel, bias = task.projection
    return jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32)


def project(
    x: Float[Array, "n before"], kernel: Float[Array, "before dim"], bias: Float[Array, " dim"]
) -> Float[Array, "n dim"]:
    """Return unit features, ``normalise(x W + b)``.

    Example:
        >>> project(jnp.array([[3.0, 0.0]]), jnp.eye(2), jnp.array([0.0, 4.0])).round(3).tolist()
        [[0.6000000238418579, 0.800000011920929]]
    """
    return l2_normalize(x @ kernel + bias[None])


def shots_of_a_class(task: Task) -> Float[Array, ""]:
    """Return the mean number of shots of the classes that have any; 1 where none has."""
    count = task.support_mask.sum(-1)
    mean = count.sum() / jnp.maximum((count > 0).sum(), 1)
    return jax.lax.stop_gradient(jnp.maximum(mean, 1.0).astype(jnp.float32))
