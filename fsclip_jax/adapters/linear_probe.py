"""Linear probe that starts from the text features, with cosine logits."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from fsclip_jax.adapters.base import Scalars, init_scalars, logits_of_weights
from fsclip_jax.adapters.descent import (
    MOST_LOGITS,
    Batch,
    Descent,
    Recipe,
    affordable_epochs,
    cross_entropy,
    descend,
    sgd,
    support_rows,
    with_text,
)
from fsclip_jax.episodes.task import Task
from fsclip_jax.numerics import cosine_logits, l2_normalize
from fsclip_jax.typing import Array, Float, Params, PRNGKeyArray, Scalar, State

PUBLISHED_RATE = 0.1

LENGTH = 0.05
"""Length of the weights before training where that of the text is not known, as a share of the
logit scale; at a scale of 100 the length is 5.

The published codes of this probe, of CLAP and of TaskRes train text features as the tower gives
them. Banks store unit vectors, and their lengths beside them; older and imported ones may have
none. As the logits are cosines, the length of a weight only sets how far a step of given size turns
it: a step of the weight moves the logits by the step times ``logit_scale / length``.
"""

MOST_LENGTH = 0.25
"""Mean length of text, as a share of the logit scale, beyond which training starts at ``LENGTH``.

The published rates are made for OpenAI's towers. Of the bundled CLIP, whose text is 0.7 to 1 times
as long as its scale, they would leave the text as it is.
"""


@dataclass(frozen=True)
class LinearProbe:
    """Cosine classifier trained from the zero-shot weights, ``s f . normalise(w_c)``.

    ``w_c`` starts at ``L_c t_c``, ``t_c`` the text feature and ``L_c`` the length that the text
    tower gave it (``s / 20`` where that is not known, or above ``s / 4`` on average), and minimises
    the cross-entropy of the shots, each step in a random view.

    With ``text_as_shot`` every text feature is one more labelled example of its class, whatever
    modality it is of.

    ``params``: the learning rate ``rate``; 0 gives zero-shot.

    Attributes:
        text_as_shot: whether the text is an extra shot, as in cross-modal adaptation.
        epochs: times that each shot is seen; 300 is published.
        batch: most shots of a step; 256 is published.
        most_logits: fewer epochs are trained where epochs, shots and classes multiply to more.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(LinearProbe(epochs=2)).shape
        (6, 3)

    Source: Silva-Rodriguez et al., "A Closer Look at the Few-Shot Adaptation of Large
    Vision-Language Models", section 3.2 (ZS-LP); the text as a shot: Lin et al., "Multimodality
    Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal Models", section 3.
    """

    text_as_shot: bool = False
    epochs: int = 300
    batch: int = 256
    most_logits: int = MOST_LOGITS

    name: ClassVar[str] = "linear_probe"
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
        if self.text_as_shot:
            rows = with_text(rows, task)

        def loss(weights: Float[Array, "way dim"], batch: Batch) -> Scalar:
            logits = cosine_logits(batch.features, l2_normalize(weights), task.logit_scale)
            return cross_entropy(logits, batch)

        epochs = affordable_epochs(rows, task.text.shape[0], self.epochs, self.most_logits)
        recipe = Recipe(sgd(), epochs, self.batch)
        return descend(loss, long_text(task), rows, key, params["rate"], recipe)


def long_text(task: Task) -> Float[Array, "way dim"]:
    """Return the text features at the length that training starts from."""
    text, usual = task.text.astype(jnp.float32), LENGTH * task.logit_scale
    if task.text_lengths is None:
        return usual * text
    known = task.text_lengths.mean() <= MOST_LENGTH * task.logit_scale
    return jnp.where(known, task.text_lengths, usual)[:, None] * text
