"""TaskRes: a learned residual on the text features."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from fsclip_jax.adapters.base import Grid, Scalars, init_scalars, logits_of_weights
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
PUBLISHED_RATES = (2e-3, 2e-4)
"""The second on ImageNet, the first elsewhere."""

_DECAY = 5e-4
_FEW_SHOTS, _EPOCHS = 4, (100, 200)


@dataclass(frozen=True)
class TaskRes:
    """Text features plus a learned residual, ``s f . normalise(L_c t_c + alpha r_c)``.

    ``t_c`` is the text feature and ``L_c`` the length that the text tower gave it (``s / 20`` as
    for ``linear_probe``). ``r_c`` starts at zero and minimises the cross-entropy of the shots,
    each step in a random view.

    ``params``: ``alpha``, the scale of the residual (0 gives zero-shot; published is 1 on Flowers
    and 0.5 elsewhere), and the learning rate ``rate``, 2e-4 on ImageNet in the published code and
    2e-3 elsewhere: both are tried where settings are chosen. Weight decay is 5e-4.

    Attributes:
        epochs: times that each shot is seen; None is as published, 100 up to 4 shots and 200
            above.
        batch: most shots of a step; 256 is published.
        most_logits: fewer epochs are trained where epochs, shots and classes multiply to more.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(TaskRes(epochs=2)).shape
        (6, 3)

    Source: Yu et al., "Task Residual for Tuning Vision-Language Models", section 3.3.
    """

    epochs: int | None = None
    batch: int = 256
    most_logits: int = MOST_LOGITS

    name: ClassVar[str] = "taskres"
    cost: ClassVar[str] = "100 or 200 epochs"
    scalars: ClassVar[Scalars] = {"alpha": PUBLISHED_SCALE, "rate": PUBLISHED_RATES[0]}
    """The published scale and learning rate of most data sets."""
    init = init_scalars
    reads_text_lengths: ClassVar[bool] = True
    zero_shot_at: ClassVar[Params] = {"alpha": 0.0}
    logits = logits_of_weights
    grid: ClassVar[Grid] = Grid(refit={"rate": PUBLISHED_RATES})

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

        way, shot = task.support_mask.shape
        epochs = self.epochs or _EPOCHS[shot > _FEW_SHOTS]
        epochs = affordable_epochs(rows, way, epochs, self.most_logits)
        recipe = Recipe(adam(weight_decay=_DECAY), epochs, self.batch)
        start = jnp.zeros(task.text.shape, jnp.float32)
        return descend(loss, start, rows, key, params["rate"], recipe)

    def _weights(
        self, params: Params, task: Task, residual: Float[Array, "way dim"]
    ) -> Float[Array, "way dim"]:
        return l2_normalize(long_text(task) + params["alpha"] * residual)
