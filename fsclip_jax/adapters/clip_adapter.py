"""CLIP-Adapter: a small network that moves the image features."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import Scalars, init_scalars
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
)
from fsclip_jax.adapters.linear_probe import PUBLISHED_RATE
from fsclip_jax.episodes.task import Task
from fsclip_jax.numerics import cosine_logits, l2_normalize
from fsclip_jax.typing import Array, Float, Params, PRNGKeyArray, Scalar, State

PUBLISHED_RATIO = 0.2


@dataclass(frozen=True)
class ClipAdapter:
    """Bottleneck on the image, ``s normalise(r A(f) + (1 - r) f) . t_c``.

    ``A(f) = relu(W2 relu(W1 f))`` with ``dim / reduction`` units inside and no biases. It minimises
    the cross-entropy of the shots, each step in a random view. Without any shot ``A`` is
    what chance made it, and ``r`` is taken as 0.

    ``params``: ``ratio``, the share ``r`` of the network (0 gives zero-shot), and the learning
    rate ``rate``. ``W1`` and ``W2`` start from the key of ``fit``.

    Attributes:
        reduction: how much narrower the inside is; 4 is published.
        epochs: times that each shot is seen; 300 as in CLAP's comparison, like optimiser, rate
            and batch.
        batch: most shots of a step.
        most_logits: fewer epochs are trained where epochs, shots and classes multiply to more.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(ClipAdapter(epochs=2)).shape
        (6, 3)

    Source: Gao et al., "CLIP-Adapter: Better Vision-Language Models with Feature Adapters",
    section 3.2, the visual adapter; ratio of its published code, training as in Silva-Rodriguez
    et al., "A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models".
    """

    reduction: int = 4
    epochs: int = 300
    batch: int = 256
    most_logits: int = MOST_LOGITS

    name: ClassVar[str] = "clip_adapter"
    scalars: ClassVar[Scalars] = {"ratio": PUBLISHED_RATIO, "rate": PUBLISHED_RATE}
    """The ratio of the published code."""
    init = init_scalars
    zero_shot_at: ClassVar[Params] = {"ratio": 0.0}

    def start(self, key: PRNGKeyArray, dim: int) -> Params:
        """Draw the weights of an untrained network, as PyTorch's ``Linear`` does."""
        inside = max(1, dim // self.reduction)
        keys = jax.random.split(key)
        sizes = {"inward": (inside, dim), "outward": (dim, inside)}
        return {
            name: jax.random.uniform(k, size, jnp.float32, -(size[1] ** -0.5), size[1] ** -0.5)
            for k, (name, size) in zip(keys, sizes.items(), strict=True)
        }

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Train the network."""
        return {
            "weights": task.text.astype(jnp.float32),
            "network": self.train(params, task, key).params,
            "ratio": jnp.where(task.support_mask.any(), params["ratio"], 0.0),
            "logit_scale": task.logit_scale,
        }

    def train(self, params: Params, task: Task, key: PRNGKeyArray) -> Descent:
        """Return the trained network and the losses."""
        start_key, key = jax.random.split(key)
        start, rows = self.start(start_key, task.text.shape[-1]), support_rows(task)
        text = task.text.astype(jnp.float32)

        def loss(network: Params, batch: Batch) -> Scalar:
            moved = move(network, params["ratio"], batch.features)
            return cross_entropy(cosine_logits(moved, text, task.logit_scale), batch)

        epochs = affordable_epochs(rows, task.text.shape[0], self.epochs, self.most_logits)
        recipe = Recipe(sgd(), epochs, self.batch)
        return descend(loss, start, rows, key, params["rate"], recipe)

    def logits(self, state: State, query: Float[Array, "query dim"]) -> Float[Array, "query way"]:
        """Return the scaled cosine of every moved query and every text feature."""
        moved = move(state["network"], state["ratio"], query.astype(jnp.float32))
        return cosine_logits(moved, state["weights"], state["logit_scale"])


def move(
    network: Params, ratio: Float[Array, ""], features: Float[Array, "n dim"]
) -> Float[Array, "n dim"]:
    """Blend features with what the network makes of them, at unit length.

    ``normalise(r relu(W2 relu(W1 f)) + (1 - r) f)``, with ``inward`` [inside dim] and ``outward``
    [dim inside].
    """
    inside = jax.nn.relu(features @ network["inward"].T)
    made = jax.nn.relu(inside @ network["outward"].T)
    return l2_normalize(ratio * made + (1 - ratio) * features)
