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
    "text": (0.11, -0.01, 0.28, -0.34, 0.13, -0.67, 0.21, 0.31, -0.37, 0.34, -0.53, -0.19),
    "prior": (-1.33, 0.02, 0.40, 0.05, -0.69, 0.05, -0.00, -0.31, 0.25, 0.83, -0.67, 0.08),
    "metric": (0.36, 0.29, 0.16, -0.43, -0.39, 0.12, -0.35, -0.44, 0.38, -0.46, -0.28, 0.39),
    "damping": (0.81, 0.19, 0.76, -0.16, 0.28, 0.25, -0.02, 0.35, 0.28, 0.04, -0.15, 0.03),
    "offset": (0.17, -0.67, 0.21, 0.48, 0.34, -0.37, 0.55, 0.50, -0.16, 0.51, -0.01, -0.17),
    "means": (0.17, 0.99, 0.26, -0.11, 0.14, 0.98, -0.03, -0.12, 0.39, 0.57, 0.13, -0.12),
}  # fmt: skip
"""Of every scalar the constant and the weights of the statistics, as they were meta-learned
(docs/methods.md, Meta-Probe) on 485 of ImageNet's classes, on a ViT-B/32, and a quarter of the
bundled emoji on the mini CLIP."""

MEANS_BIAS = 0.269
"""The learned ``h`` of :class:`MetaProbe`; a Gaussian has 0.5."""


def scalars_of(params: Params, found: Float[Array, " statistic"]) -> dict[str, Float[Array, ""]]:
    """Return the scalars that a task with these statistics chooses."""
    moved = {name: params["constant"][name] + params["weights"][name] @ found for name in START}
    far = FURTHEST
    return {name: START[name] * jnp.exp(far * jnp.tanh(x / far)) for name, x in moved.items()}


@dataclass(frozen=True)
class MetaProbe:
    """Linear probe of text and shots, ``s' f . w_c + z(f) . a_c - h m_c . a_c``.

    With the shots ``x_i`` as rows, ``u(x) = x - m`` less the mean ``m`` of the class means, ``m_c``
    those means in ``u``, ``R`` the shots less the mean of their class, of mean squared length
    ``q``, and ``P = softmax(s' X W^T)`` what the text says of them, ``s' = text s``::

        z(x) = [u(x), sqrt(offset)]
        S    = (I + R^T R / (metric q)) k, with a last row and column of 1
        B    = S + (v / damping) Z^T Z
        a_c  = B^-1 (v Z^T (Y - P)_c + g [m_c, 0])

    That is, one step of a bounded Hessian towards the most likely multinomial regression whose
    weights have the variance ``v S^-1`` around the text's (they may differ most where images of a
    class differ least), and a Gaussian's means in the same metric. ``k`` keeps the size of ``S``
    as shots grow, in the unit of the shots' mean squared length.

    The six scalars ``text``, ``prior`` (v), ``metric``, ``damping``, ``offset`` and ``means`` (g)
    are ``start exp(4 tanh((b + w . t) / 4))`` with the statistics ``t`` of
    :func:`fsclip_jax.adapters.task_statistics.statistics`: how far apart text vectors are and how
    much shots spread, how well the text tells the shots apart, and how sure it is. None depends
    on the basis or the width of the features, so the numbers, meta-learned once, are the defaults
    for any backbone; ``fsclip train --method meta_probe`` learns them anew.

    A new task costs one factorisation of a ``dim x dim`` matrix. Classes may have any number of
    shots, or none; without any it is zero-shot.

    ``params``: ``strength``, the way from zero-shot (0) to all this (1), and what was learned.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(MetaProbe()).shape
        (6, 3)

    Source: this project. The bound of the Hessian is Boehning, Multinomial logistic regression
    algorithm, 1992.
    """

    name: ClassVar[str] = "meta_probe"
    zero_shot_at: ClassVar[Params] = {"strength": 0.0}
    classes_meet: ClassVar[bool] = True
    scaled: ClassVar[Scaled] = "in the fit"
    one_by_one: ClassVar[bool] = True

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
        text_logits = seen.rows @ text.T + (text @ seen.centre)[None]
        scalars = scalars_of(params, statistics(task, seen, text_logits))
        said = seen.kept * jax.nn.softmax(scalars["text"] * text_logits, axis=-1)
        missed = seen.number[:, None] * seen.means - said.T @ seen.rows
        wanted = scalars["prior"] * missed + scalars["means"] * seen.means
        root = jnp.sqrt(scalars["offset"])
        constant = scalars["prior"] * root * (seen.number - said.sum(0))
        added, last = _solve(seen, scalars, wanted, constant)
        bias = root * last - added @ seen.centre
        bias -= params["means_bias"] * jnp.sum(added * seen.means, axis=-1)
        # Without any shot there is nothing to temper the text by.
        strength = params["strength"] * jnp.minimum(seen.number.sum(), 1.0)
        tempered = (scalars["text"] - 1.0) * text
        return {"weights": text + strength * (tempered + added), "bias": strength * bias}

    def logits(self, state: State, query: Float[Array, "query dim"]) -> Float[Array, "query way"]:
        """Return the linear score of every class."""
        return query.astype(jnp.float32) @ state["weights"].T + state["bias"][None]


def _solve(
    seen: Seen,
    scalars: dict[str, Float[Array, ""]],
    wanted: Float[Array, "way dim"],
    constant: Float[Array, " way"],
) -> tuple[Float[Array, "way dim"], Float[Array, " way"]]:
    """Return ``B^-1`` of ``wanted`` with the last column ``constant``, the last column apart.

    That column is eliminated by hand, so that what is factored is ``dim x dim``. One factorisation
    and no more: of two that do not wait for each other XLA starts both at once on a CPU, and each
    may wait for ever for threads that the other holds.
    """
    share = scalars["prior"] / scalars["damping"]
    size = (1.0 + seen.free / (scalars["metric"] * seen.width)) / jnp.maximum(seen.total, 1e-9)
    firm = 1.0 / (jnp.maximum(scalars["metric"] * seen.within, 1e-9) * size)
    block = firm * seen.scatter + share * seen.gram + jnp.eye(seen.gram.shape[0]) / size
    root = jax.lax.linalg.cholesky(block, symmetrize_input=False)
    edge = share * jnp.sqrt(scalars["offset"]) * (seen.number @ seen.means)[None]
    both = jnp.concatenate([wanted, edge])
    for transpose in (True, False):
        both = jax.lax.linalg.triangular_solve(root, both, lower=True, transpose_a=transpose)
    found, along = both[:-1], both[-1:]
    corner = 1.0 + share * scalars["offset"] * seen.number.sum() - jnp.sum(edge * along)
    last = (constant - jnp.sum(found * edge, axis=-1)) / corner
    return found - last[:, None] * along, last
