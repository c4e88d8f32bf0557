"""CLAP: a linear probe held near its zero-shot start, class by class; needs no validation set."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import Scalars, init_scalars, logits_of_weights
from fsclip_jax.adapters.descent import (
    MOST_LOGITS,
    Batch,
    Descent,
    LabelledRows,
    Recipe,
    affordable_epochs,
    cross_entropy,
    descend,
    sgd,
    support_rows,
)
from fsclip_jax.adapters.linear_probe import PUBLISHED_RATE, long_text
from fsclip_jax.episodes.task import Task
from fsclip_jax.numerics import cosine_logits, l2_normalize
from fsclip_jax.typing import Array, Float, Params, PRNGKeyArray, Scalar, State


@dataclass(frozen=True)
class Clap:
    """Linear probe with class-adaptive constraint, ``s f . normalise(w_c)``.

    ``w_c`` starts at ``L_c t_c``, ``t_c`` the text feature and ``L_c`` the length that the text
    tower gave it (``s / 20`` as for ``linear_probe``), and minimises
    ``cross-entropy + mean_c lambda_c |w_c - L_c t_c|^2``. ``lambda_c`` is the mean zero-shot
    probability of the right answer over the shots of the class: where CLIP knows the class
    already, its text feature is kept more firmly. A class without shots has nothing to learn from
    and ``lambda_c = 1``.

    ``params``: the learning rate ``rate``; 0 gives zero-shot.

    Attributes:
        epochs: times that each shot is seen; 300 is published.
        batch: most shots of a step; 256 is published.
        most_logits: fewer epochs are trained where epochs, shots and classes multiply to more.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(Clap(epochs=2)).shape
        (6, 3)

    Source: Silva-Rodriguez et al., "A Closer Look at the Few-Shot Adaptation of Large
    Vision-Language Models", section 4.
    """

    epochs: int = 300
    batch: int = 256
    most_logits: int = MOST_LOGITS

    name: ClassVar[str] = "clap"
    scalars: ClassVar[Scalars] = {"rate": PUBLISHED_RATE}
    """The published learning rate."""
    init = init_scalars
    reads_text_lengths: ClassVar[bool] = True
    zero_shot_at: ClassVar[Params] = {"rate": 0.0}
    logits = logits_of_weights

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Train the weights."""
        weights = l2_normalize(self.train(params, task, key).params)
        return {"weights": weights, "logit_scale": task.logit_scale}

    def train(self, params: Params, task: Task, key: PRNGKeyArray) -> Descent:
        """Return the weights before they are normalised, and the losses."""
        rows = support_rows(task)
        start = long_text(task)
        firmness = class_multipliers(task, rows)

        def loss(weights: Float[Array, "way dim"], batch: Batch) -> Scalar:
            logits = cosine_logits(batch.features, l2_normalize(weights), task.logit_scale)
            distance = jnp.sum(jnp.square(weights - start), axis=-1)
            return cross_entropy(logits, batch) + jnp.mean(firmness * distance)

        epochs = affordable_epochs(rows, task.text.shape[0], self.epochs, self.most_logits)
        recipe = Recipe(sgd(), epochs, self.batch)
        return descend(loss, start, rows, key, params["rate"], recipe)


def class_multipliers(task: Task, rows: LabelledRows) -> Float[Array, " way"]:
    """Return ``lambda_c``, the mean zero-shot probability of a class over its shots and views.

    Between 0 and 1; 1 for a class without shots.
    """
    text = task.text.astype(jnp.float32)

    def own_probability(features: Float[Array, "row dim"]) -> Float[Array, " row"]:
        p = jax.nn.softmax(cosine_logits(features.astype(jnp.float32), text, task.logit_scale))
        return jnp.take_along_axis(p, rows.labels[:, None], axis=-1)[:, 0]

    # View after view: the probabilities of all views together would be large.
    by_view = jax.lax.map(own_probability, jnp.swapaxes(rows.features, 0, 1))
    own = by_view.mean(0).reshape(task.support_mask.shape)
    kept = task.support_mask.astype(jnp.float32)
    count = kept.sum(-1)
    return jnp.where(count > 0, jnp.sum(own * kept, axis=-1) / jnp.maximum(count, 1), 1.0)
