"""Cross-modal linear probe: the name of a class is one more example of it."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from fsclip_jax.adapters.base import Scalars, init_scalars, logits_of_weights
from fsclip_jax.adapters.descent import (
    MOST_LOGITS,
    Batch,
    Descent,
    Recipe,
    adamw,
    affordable_epochs,
    cross_entropy,
    descend,
    support_rows,
)
from fsclip_jax.episodes.task import Task
from fsclip_jax.numerics import cosine_logits
from fsclip_jax.typing import Array, Float, Params, PRNGKeyArray, Scalar, State

DEFAULT_RATE = 0.03
"""At a scale of 100 steps of 3e-4, between the published 1e-4 and 1e-3, of which one is chosen by
few-shot validation there. A step moves the logits alike at every scale."""


@dataclass(frozen=True)
class CrossModal:
    """Linear classifier that learns from images and from class names alike, ``s f . w_c``.

    ``w_c`` starts at the text feature ``t_c`` and minimises the mean of two cross-entropies, that
    of the shots and that of the texts as if they were images: every step is half image, half
    text. Unlike ``linear_probe`` with ``text_as_shot`` the texts weigh as much as the shots
    however many these are, and weights are not scaled to unit length. Without any shot nothing is
    trained: zero-shot.

    ``params``: ``rate``, the learning rate times the logit scale; 0 gives zero-shot.

    Attributes:
        epochs: times that each shot is seen; 12,800 steps are published, of which the best on a
            few-shot val set is kept.
        batch: most shots of a step.
        most_logits: fewer epochs are trained where epochs, shots and classes multiply to more.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(CrossModal(epochs=2)).shape
        (6, 3)

    Source: Lin et al., "Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with
    Multimodal Models", section 3; optimiser and halves of its published code.
    """

    epochs: int = 300
    batch: int = 256
    most_logits: int = MOST_LOGITS

    name: ClassVar[str] = "cross_modal"
    scalars: ClassVar[Scalars] = {"rate": DEFAULT_RATE}
    init = init_scalars
    zero_shot_at: ClassVar[Params] = {"rate": 0.0}
    logits = logits_of_weights

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Train the weights."""
        weights = self.train(params, task, key).params
        return {"weights": weights, "logit_scale": task.logit_scale}

    def train(self, params: Params, task: Task, key: PRNGKeyArray) -> Descent:
        """Return the weights and the losses."""
        rows, text = support_rows(task), task.text.astype(jnp.float32)
        way = text.shape[0]
        names = Batch(text, jnp.arange(way), jnp.ones(way), jnp.arange(way))

        def loss(weights: Float[Array, "way dim"], batch: Batch) -> Scalar:
            seen, read = (
                cross_entropy(cosine_logits(part.features, weights, task.logit_scale), part)
                for part in (batch, names)
            )
            return (seen + read) / 2

        epochs = affordable_epochs(rows, way, self.epochs, self.most_logits)
        rate = jnp.where(task.support_mask.any(), params["rate"] / task.logit_scale, 0.0)
        return descend(loss, text, rows, key, rate, Recipe(adamw(), epochs, self.batch))
