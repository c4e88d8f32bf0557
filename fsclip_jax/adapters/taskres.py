"""TaskRes: a learned residual on the text features."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from fsclip_jax.adapters.base import Scalars, init_scalars, logits_of_weights
from fsclip_jax.adapters.descent import (
    MOST_LOGITS,
    Batch,
    Descent,
    Recipe,
    adam,
    affordable_epochs,
    cross_entropy,
    descend,
    support_rows,
)
from fsclip_jax.adapters.linear_probe import long_text
from fsclip_jax.episodes.task import Task
from fsclip_jax.numerics import cosine_logits, l2_normalize
from fsclip_jax.typing import Array, Float, Params, PRNGKeyArray, Scalar, State

PUBLISHED_SCALE = 0.5
PUBLISHED_RATE = 2e-3


@dataclass(frozen=True)
class TaskRes:
    """Text features plus a learned residual, ``s f . normalise(L t_c + alpha r_c)``.

    ``t_c`` is the text feature and ``L = s / 20``. ``r_c`` starts at zero and minimises
    the cross-entropy of the shots, each step in a random view.

    ``params``: ``alpha``, the scale of the residual (0 gives zero-shot), and the learning rate
    ``rate``.

    Attributes:
        epochs: times that each shot is seen; 100 is published up to 4 shots, 200 above.
        batch: most shots of a step; 256 is published.
        most_logits: fewer epochs are trained where epochs, shots and classes multiply to more.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(TaskRes(epochs=2)).shape
        (6, 3)

    Source: Yu et al., "Task Residual for Tuning Vision-Language Models", section 3.3.
    """

    epochs: int = 100
    batch: int = 256
    most_logits: int = MOST_LOGITS

    name: ClassVar[str] = "taskres"
    scalars: ClassVar[Scalars] = {"alpha": PUBLISHED_SCALE, "rate": PUBLISHED_RATE}
    """The published scale and learning rate of most data sets."""
    init = init_scalars
    zero_shot_at: ClassVar[Params] = {"alpha": 0.0}
    logits = logits_of_weights

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Train the residual."""
        weights = self._weights(params, task, self.train(params, task, key).params)
        return {"weights": weights, "logit_scale": task.logit_scale}

    def train(self, params: Params, task: Task, key: PRNGKeyArray) -> Descent:
        """Return the residual and the losses."""
        rows = support_rows(task)

        def loss(residual: Float[Array, "way dim"], batch: Batch) -> Scalar:
            weights = self._weights(params, task, residual)
            return cross_entropy(cosine_logits(batch.features, weights, task.logit_scale), batch)

        epochs = affordable_epochs(rows, task.text.shape[0], self.epochs, self.most_logits)
        recipe = Recipe(adam(), epochs, self.batch)
        start = jnp.zeros(task.text.shape, jnp.float32)
        return descend(loss, start, rows, key, params["rate"], recipe)

    def _weights(
        self, params: Params, task: Task, residual: Float[Array, "way dim"]
    ) -> Float[Array, "way dim"]:
        return l2_normalize(long_text(task) + params["alpha"] * residual)
