"""LP++: a linear probe that learns how much of the text each class takes, with computed steps."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import init_scalars
from fsclip_jax.adapters.descent import Batch, Descent, cross_entropy, support_rows
from fsclip_jax.episodes.task import Task
from fsclip_jax.typing import Array, Float, Params, PRNGKeyArray, Scalar, State

START_FACTOR = 2.5
"""Published: the weight of the text starts at ``250 mean(f . t)``, with a logit scale of 100."""

_POWER_STEPS = 50


class Probe(NamedTuple):
    """What is learned: visual weights ``w_c``, and the weight ``a_c`` of the text of each class."""

    weights: Float[Array, "way dim"]
    blend: Float[Array, " way"]


@dataclass(frozen=True)
class LpPlusPlus:
    """Linear probe blended with the text, ``f . (w_c + a_c t_c)``.

    ``w`` starts as the sum of the shots of each class, and every ``a_c`` as ``2.5 s`` times the
    mean cosine of shots and their text. Both minimise the cross-entropy of all ``N`` shots
    together. The step sizes are no settings, they follow from the features:
    ``4 N / lambda_max(F^T F)`` for ``w`` in each iteration, ``N / (4 max_c sum_i (f_i . t_c)^2)``
    for ``a`` in every tenth. Without any shot, ``a_c = s``: zero-shot.

    ``params``: none.

    Attributes:
        iterations: steps; 300 is published.
        most_logits: fewer steps are taken where steps, shots and classes multiply to more.
        momentum: of the steps of ``w``; 0.9 in the published code, 0 in the paper.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(LpPlusPlus(iterations=20)).shape
        (6, 3)

    Source: Huang et al., "LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP", sections
    3 and 4; start, momentum and iterations of its published code.
    """

    iterations: int = 300
    most_logits: int = 300_000_000
    momentum: float = 0.9
    blend_every: ClassVar[int] = 10

    name: ClassVar[str] = "lp_plus_plus"
    init = init_scalars

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Train the weights and the blend."""
        probe = self.train(params, task, key).params
        return {"weights": probe.weights + probe.blend[:, None] * task.text.astype(jnp.float32)}

    def train(self, params: Params, task: Task, key: PRNGKeyArray) -> Descent:
        """Return the :class:`Probe` that was learned; nothing is drawn."""
        del params, key
        every = support_rows(task._replace(views=None))
        features, kept = every.features[:, 0].astype(jnp.float32), every.kept.astype(jnp.float32)
        rows = Batch(features, every.labels, kept, jnp.arange(len(kept)))
        text = task.text.astype(jnp.float32)
        step_w, step_a = step_sizes(rows, text)
        # What the text says of each shot never changes.
        to_text = rows.features @ text.T

        def loss(probe: Probe) -> Scalar:
            visual = rows.features @ probe.weights.T
            return cross_entropy(visual + probe.blend[None, :] * to_text, rows)

        def step(
            carry: tuple[Probe, Float[Array, "way dim"]], iteration: Array
        ) -> tuple[tuple[Probe, Float[Array, "way dim"]], Scalar]:
            probe, velocity = carry
            value, slope = jax.value_and_grad(loss)(probe)
            velocity = self.momentum * velocity + slope.weights
            now = (iteration + 1) % self.blend_every == 0
            blend = probe.blend - jnp.where(now, step_a, 0.0) * slope.blend
            return (Probe(probe.weights - step_w * velocity, blend), velocity), value

        start = starting_probe(task, text)
        iterations = max(1, min(self.iterations, self.most_logits // max(1, to_text.size)))
        (probe, _), losses = jax.lax.scan(
            step, (start, jnp.zeros_like(start.weights)), jnp.arange(iterations)
        )
        return Descent(probe, losses)

    def logits(self, state: State, query: Float[Array, "query dim"]) -> Float[Array, "query way"]:
        """Return the inner products with the blended weights."""
        return query.astype(jnp.float32) @ state["weights"].T


def starting_probe(task: Task, text: Float[Array, "way dim"]) -> Probe:
    """Return the class sums, and the blend that the cosines of shots and text suggest."""
    kept = task.support_mask.astype(jnp.float32)
    support = task.support.astype(jnp.float32)
    weights = jnp.einsum("wsd,ws->wd", support, kept)
    present = task.support_mask.any(-1)
    own = jnp.sum(weights * text, axis=-1) / jnp.maximum(kept.sum(-1), 1)
    mean = jnp.sum(own) / jnp.maximum(present.sum(), 1)
    blend = jnp.where(present.any(), START_FACTOR * mean, 1.0) * task.logit_scale
    return Probe(weights, jnp.broadcast_to(blend, text.shape[:1]))


def step_sizes(
    rows: Batch, text: Float[Array, "way dim"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the step sizes of the weights and of the blend, from bounds on the curvature.

    ``4 N / lambda_max(F^T F)`` and ``N / (4 max_c sum_i (f_i . t_c)^2)``; 0 without shots.
    """
    features = rows.features * rows.weights[:, None]
    count = jnp.sum(rows.weights)
    gram = features.T @ features
    largest = largest_eigenvalue(gram)
    heaviest = jnp.max(jnp.einsum("wd,de,we->w", text, gram, text))
    return (
        jnp.where(largest > 0, 4 * count / jnp.where(largest > 0, largest, 1.0), 0.0),
        jnp.where(heaviest > 0, count / (4 * jnp.where(heaviest > 0, heaviest, 1.0)), 0.0),
    )


def largest_eigenvalue(matrix: Float[Array, "dim dim"]) -> Float[Array, ""]:
    """Return the largest eigenvalue of a positive semidefinite matrix, by the power method.

    Example:
        >>> round(float(largest_eigenvalue(jnp.diag(jnp.array([1.0, 3.0, 2.0])))), 5)
        3.0
    """

    def step(vector: Float[Array, " dim"], _: None) -> tuple[Float[Array, " dim"], None]:
        return _unit(matrix @ vector), None

    # The features of CLIP share one strong direction, their mean: it dominates after few steps.
    vector, _ = jax.lax.scan(step, _unit(matrix.sum(0)), None, length=_POWER_STEPS)
    return vector @ (matrix @ vector)


def _unit(vector: Float[Array, " dim"]) -> Float[Array, " dim"]:
    return vector * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(vector)), 1e-12))
