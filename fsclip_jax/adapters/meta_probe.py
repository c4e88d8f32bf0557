"""Meta-Probe: a probe from the text, whose prior the task chooses by its own statistics."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import Scaled
from fsclip_jax.adapters.task_statistics import Seen, look_at, statistics
from fsclip_jax.episodes.task import Task
from fsclip_jax.typing import Array, Float, Params, PRNGKeyArray, State

START = {"text": 0.85, "prior": 12.0, "metric": 0.6, "damping": 10.0, "offset": 2.0, "means": 3.0}
"""What the scalars are where a task has none but average statistics and nothing was learned."""

FURTHEST = 4.0
"""A scalar is moved by a factor of ``exp(FURTHEST)`` at most."""

LEARNED = {
    "text": (0.15, 0.05, 0.27, -0.24, -0.11, -0.63, 0.14, 0.29, -0.32, 0.16, -0.41, -0.18),
    "prior": (-0.45, -0.03, 0.40, -0.02, -0.03, 0.10, -0.20, -0.05, 0.08, -0.02, -0.09, 0.10),
    "metric": (0.46, 0.30, 0.13, -0.03, -0.01, 0.22, -0.25, -0.20, 0.36, -0.29, 0.05, 0.27),
    "damping": (0.12, 0.04, 0.26, -0.03, -0.06, 0.17, 0.03, -0.16, 0.17, 0.07, -0.11, 0.03),
    "offset": (0.17, 0.01, 0.01, 0.01, 0.01, 0.02, -0.01, 0.00, -0.00, 0.00, 0.01, 0.01),
    "means": (0.29, 0.60, 0.19, -0.27, -0.14, 0.44, -0.32, -0.13, 0.04, 0.34, 0.17, 0.05),
}  # fmt: skip
"""Of every scalar the constant and the weights of the statistics, as they were meta-learned
(docs/methods.md, Meta-Probe) on 485 of ImageNet's classes, on a ViT-B/32, and a quarter of the
bundled emoji on the mini CLIP."""

MEANS_BIAS = 0.335
"""The learned ``h`` of :class:`MetaProbe`; a Gaussian has 0.5."""


def scalars_of(params: Params, found: Float[Array, " statistic"]) -> dict[str, Float[Array, ""]]:
    """Return the scalars that a task with these statistics chooses."""
    moved = {name: params["constant"][name] + params["weights"][name] @ found for name in START}
    far = FURTHEST
    return {name: START[name] * jnp.exp(far * jnp.tanh(x / far)) for name, x in moved.items()}


@dataclass(frozen=True)
class MetaProbe:
    """Linear probe of text and shots, ``s' f . w_c + v z(f) . a_c + g (u(f) . m_c - h m_c . m_c)``.

    With the shots ``x_i`` as rows, ``u(x) = x - m`` less the mean ``m`` of the class means, ``m_c``
    those means in ``u``, ``R`` the shots less the mean of their class, of mean squared length
    ``q``, and ``r = s' X W^T`` what the text says of them, ``s' = text s``::

        S    = (I + R^T R / (metric q)) k        u . m_c = u^T S^-1 m_c, and so |m_c|^2
        z(x) = [u(x), sqrt(offset)]              S'  = S with a last row and column of 1
        B    = S' + (v / damping) Z^T Z
        a   <- a + B^-1 (Z^T (Y - softmax(r + v Z a)) - S' a)      from a = 0, in steps

    That is, a classifier of a Gaussian's means, and steps of a bounded Hessian towards the most
    likely multinomial regression whose weights have the variance ``v S'^-1`` around the text's:
    they may differ most where images of a class differ least. ``k`` keeps the size of ``S`` as
    shots grow, in the unit of the shots' mean squared length.

    The six scalars ``text``, ``prior`` (v), ``metric``, ``damping``, ``offset`` and ``means`` (g)
    are ``start exp(4 tanh((b + w . t) / 4))`` with the statistics ``t`` of
    :func:`fsclip_jax.adapters.task_statistics.statistics`: how far apart text vectors are and how
    much shots spread, how well the text tells the shots apart, and how sure it is. None depends
    on the basis or the width of the features, so the numbers, meta-learned once, are the defaults
    for any backbone; ``fsclip train --method meta_probe`` learns them anew.

    A new task costs two inverses of a ``dim x dim`` matrix, found together. Classes may have any
    number of shots, or none; without any it is zero-shot.

    ``params``: ``strength``, the way from zero-shot (0) to all this (1), and what was learned.

    Attributes:
        steps: steps towards the most likely weights.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(MetaProbe()).shape
        (6, 3)

    Source: this project. The bound of the Hessian is Boehning, Multinomial logistic regression
    algorithm, 1992.
    """

    steps: int = 3

    name: ClassVar[str] = "meta_probe"
    zero_shot_at: ClassVar[Params] = {"strength": 0.0}
    classes_meet: ClassVar[bool] = True
    scaled: ClassVar[Scaled] = "in the fit"

    def init(self, key: PRNGKeyArray, dim: int) -> Params:
        """Return the meta-learned numbers, the same for any width."""
        del key, dim
        return {
            "strength": jnp.float32(1.0),
            "means_bias": jnp.float32(MEANS_BIAS),
            "constant": {name: jnp.float32(row[0]) for name, row in LEARNED.items()},
            "weights": {name: jnp.asarray(row[1:], jnp.float32) for name, row in LEARNED.items()},
        }

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Solve for one weight vector and one bias a class."""
        del key
        return self.solve(params, task, look_at(task))

    def solve(self, params: Params, task: Task, seen: Seen) -> State:
        """Return the state of a task that has been looked at."""
        text = task.logit_scale * task.text.astype(jnp.float32)
        text_logits = task.support.astype(jnp.float32).reshape(seen.rows.shape) @ text.T
        scalars = scalars_of(params, statistics(task, seen, text_logits))
        rows = jnp.concatenate([seen.rows, jnp.sqrt(scalars["offset"]) * seen.kept], axis=1)
        precision = _precision(seen, scalars["metric"])
        edge = rows.T @ rows[:, -1:]
        gram = jnp.block([[seen.gram, edge[:-1]], [edge.T]])
        bound = precision + scalars["prior"] / scalars["damping"] * gram
        covariance, step = _inverses(jnp.stack([precision, bound]))
        told = scalars["text"] * text_logits
        probe = self._probe(seen, rows, precision, step, told, scalars["prior"])
        means = scalars["means"] * seen.means @ covariance[:-1, :-1]
        added = means + probe[:, :-1]
        bias = jnp.sqrt(scalars["offset"]) * probe[:, -1] - added @ seen.centre
        bias -= params["means_bias"] * jnp.sum(means * seen.means, axis=-1)
        # Without any shot there is nothing to temper the text by.
        strength = params["strength"] * jnp.minimum(seen.number.sum(), 1.0)
        tempered = (scalars["text"] - 1.0) * text
        return {"weights": text + strength * (tempered + added), "bias": strength * bias}

    def _probe(
        self,
        seen: Seen,
        rows: Float[Array, "row size"],
        precision: Float[Array, "size size"],
        step: Float[Array, "size size"],
        text_logits: Float[Array, "row way"],
        prior: Float[Array, ""],
    ) -> Float[Array, "way size"]:
        """Return ``v a_c``, the last column for the constant feature; ``step`` is ``B^-1``."""
        way, size = seen.number.shape[0], rows.shape[1]
        target = seen.kept * jnp.repeat(jnp.eye(way), rows.shape[0] // way, axis=0)
        weights = jnp.zeros((size, way))
        for _ in range(self.steps):
            said = jax.nn.softmax(text_logits + prior * rows @ weights, axis=-1)
            weights += step @ (rows.T @ (target - seen.kept * said) - precision @ weights)
        return prior * weights.T

    def logits(self, state: State, query: Float[Array, "query dim"]) -> Float[Array, "query way"]:
        """Return the linear score of every class."""
        return query.astype(jnp.float32) @ state["weights"].T + state["bias"][None]


def _precision(seen: Seen, metric: Float[Array, ""]) -> Float[Array, "size size"]:
    """How firmly weights are held near the text's: more along what differs within a class."""
    size = (1.0 + seen.free / (metric * seen.width)) / jnp.maximum(seen.total, 1e-9)
    whole = jnp.eye(seen.scatter.shape[0]) + seen.scatter / jnp.maximum(metric * seen.within, 1e-9)
    return jax.scipy.linalg.block_diag(whole / size, jnp.ones((1, 1)))


def _inverses(matrices: Float[Array, "matrix dim dim"]) -> Float[Array, "matrix dim dim"]:
    """Invert positive definite matrices, all in one factorisation and one solve.

    Two that do not wait for each other may wait for each other's threads for ever: XLA starts
    both at once on a CPU, and each takes the threads that the other needs.
    """
    identity = jnp.broadcast_to(jnp.eye(matrices.shape[-1]), matrices.shape)
    roots = jax.lax.linalg.triangular_solve(
        jax.lax.linalg.cholesky(matrices), identity, left_side=True, lower=True
    )
    return roots.swapaxes(-1, -2) @ roots
