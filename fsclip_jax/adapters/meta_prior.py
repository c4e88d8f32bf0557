"""Meta-Prior: a Gaussian process on top of the text, its prior and its solver meta-learned."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import Scaled
from fsclip_jax.adapters.cache import affinities, kernel_sums
from fsclip_jax.episodes.task import Task
from fsclip_jax.numerics import l2_normalize, masked_mean
from fsclip_jax.typing import Array, Bool, Float, Params, PRNGKeyArray, State

SPEED = 10.0
"""Scalars are learned as ``start * exp(SPEED * leaf)``: a step of 0.001 moves them by 1 %."""

SHRINK, BETA, CENTRE, RIDGE, FIRST, RATE, DECAY, MOMENTUM = 0.1, 2.0, 3.0, 1.0, 2.0, 2.0, 0.01, 0.5
"""Starting values; CENTRE is the logit of the part of the mean that is taken away."""


def embed(
    x: Float[Array, "n dim"], centre: Float[Array, " dim"], metric: Float[Array, "dim dim"]
) -> Float[Array, "n dim"]:
    """Centre features, whiten them, and scale them to unit length: ``normalise(M (x - centre))``.

    ``centre`` stands for the mean image of the task; float32.
    """
    return l2_normalize((x.astype(jnp.float32) - centre[None]) @ metric.T)


@dataclass(frozen=True)
class MetaPrior:
    """Gaussian-process classification of the shots, with the text as its mean.

    With the shots ``x_i`` of all classes as rows, ``Y`` their one-hot labels, the embedding ``z``
    (see `embed`), ``G_ij = exp(-beta (1 - z_i . z_j))``, ``L_ic = omega s x_i . w_c`` and
    ``P = (G + ridge I)^-1``::

        A_1     = P first r (Y - 1/C)
        V_t+1   = momentum V_t + rate_t P r (Y - softmax(L + G A_t) - decay A_t)
        A_t+1   = A_t + V_t+1
        logits  = omega s f . w_c + sum_i exp(-beta (1 - z(f) . z_i)) A_ic

    These are a few Newton-like steps, with one factorisation for all of them, towards the most
    likely latent function of a Gaussian process whose mean is the zero-shot classifier. ``r`` is
    a power of the number of shots of the class. All named scalars are learned across tasks. The
    metric whitens by the spread of images within their classes, measured once on the classes
    that are trained on (`prime`) and shrunk towards the identity by a learned amount.

    A new task costs one factorisation of the shots' kernel matrix: no gradient, no search, and
    the answer to a query depends on its own image only. Without any shot it is zero-shot.

    Attributes:
        steps: steps after the first answer.
        whiten: whether the metric is learned; without, it is the identity.
        precondition: whether steps are taken through P; without, P is the identity.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(MetaPrior()).shape
        (6, 3)

    Source: this project. The latent-function view is Rasmussen and Williams,
    Gaussian Processes for Machine Learning, section 3.5; a fixed matrix in place of the Hessian is
    Boehning, Multinomial logistic regression algorithm, 1992.
    """

    steps: int = 4
    whiten: bool = True
    precondition: bool = True

    name: ClassVar[str] = "meta_prior"
    zero_shot_at: ClassVar[Params] = {"steps": {"first": -1e4, "rate": -1e4}}
    classes_meet: ClassVar[bool] = True
    scaled: ClassVar[Scaled] = "in the fit"
    meta_learned: ClassVar[bool] = True

    def init(self, key: PRNGKeyArray, dim: int) -> Params:
        """Return the parameters before training: the identity metric, scalars at their start."""
        del key
        names = ("first", "ridge", "momentum", "decay", "shots")
        # Every leaf is an array of its own: a training step hands each back to the device.
        params = {
            "kernel": {name: jnp.zeros(()) for name in ("beta", "centre")},
            "text": {"omega": jnp.zeros(())},
            "steps": {"rate": jnp.zeros((self.steps,)), **{name: jnp.zeros(()) for name in names}},
        }
        if self.whiten:
            params["metric"] = {
                "basis": jnp.eye(dim),
                "spread": jnp.ones((dim,)),
                "shrink": jnp.zeros(()),
            }
        return params

    def prime(self, params: Params, task: Task) -> Params:
        """Measure how images spread within their classes, before the first training step.

        From all classes to train on, with all their training images: ``metric.basis`` (principal
        axes as rows) and ``metric.spread`` (variance along them, of mean one). Unchanged where no
        class has two images.
        """
        if not self.whiten:
            return params
        shots, mask = task.support.astype(jnp.float32), task.support_mask
        rest = jnp.where(mask[..., None], shots - masked_mean(shots, mask)[:, None], 0.0)
        rest = rest.reshape(-1, rest.shape[-1])
        spread, axes = jnp.linalg.eigh(rest.T @ rest)
        spread = jnp.maximum(spread, 0.0)
        if float(spread.mean()) <= 0:
            return params
        measured = {"basis": axes.T, "spread": spread / spread.mean()}
        return {**params, "metric": {**params["metric"], **measured}}

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Solve for one coefficient per shot and class."""
        del key
        way, shot, dim = task.support.shape
        shots, mask = task.support.astype(jnp.float32), task.support_mask
        text = task.text.astype(jnp.float32)
        present = mask.any(-1).astype(jnp.float32)

        centre = masked_mean(shots, mask).sum(0) / jnp.maximum(present.sum(), 1.0)
        centre = centre * jax.nn.sigmoid(CENTRE + SPEED * params["kernel"]["centre"])
        metric = self._metric(params, dim)
        beta = _positive(BETA, params["kernel"]["beta"])
        # A task without any shot has nothing to temper the text by.
        omega = _positive(1.0, present.max() * params["text"]["omega"])
        weights = omega * task.logit_scale * text

        rows, kept = shots.reshape(way * shot, dim), mask.reshape(-1)
        keys = embed(rows, centre, metric)
        kernel = jnp.where(kept[:, None] & kept[None], affinities(keys, keys, beta), 0.0)
        coefficients = self._solve(params["steps"], kernel, rows @ weights.T, mask)
        return {
            "weights": weights,
            "keys": keys,
            "coefficients": coefficients,
            "centre": centre,
            "metric": metric,
            "beta": beta,
        }

    def _metric(self, params: Params, dim: int) -> Float[Array, "dim dim"]:
        if not self.whiten:
            return jnp.eye(dim)
        # What was measured is not to be learned: it would follow the few classes of the training.
        metric = params["metric"]
        basis, spread = jax.lax.stop_gradient((metric["basis"], metric["spread"]))
        shrink = _positive(SHRINK, metric["shrink"])
        return basis * jax.lax.rsqrt(spread + shrink)[:, None]

    def _solve(
        self,
        params: Params,
        kernel: Float[Array, "row row"],
        text_logits: Float[Array, "row way"],
        mask: Bool[Array, "way shot"],
    ) -> Float[Array, "row way"]:
        """Return the coefficients after the learned steps; zero in rows that are not present."""
        way, shot = mask.shape
        kept = mask.reshape(-1, 1).astype(jnp.float32)
        count = jnp.maximum(mask.sum(-1).astype(jnp.float32), 1.0)
        share = kept * jnp.repeat(count ** (SPEED * params["shots"]), shot)[:, None]
        target = jnp.repeat(jnp.eye(way), shot, axis=0)
        ridge = _positive(RIDGE, params["ridge"])
        momentum = _positive(MOMENTUM, params["momentum"])
        decay = _positive(DECAY, params["decay"])
        factor = jnp.linalg.cholesky(kernel + ridge * jnp.eye(kernel.shape[0]))

        def through(x: Array) -> tuple[Array, Array]:
            """Return P x and G P x."""
            if not self.precondition:
                return x, kernel @ x
            solved = jax.scipy.linalg.cho_solve((factor, True), x)
            return solved, x - ridge * solved

        first = _positive(FIRST, params["first"])
        coefficients, latent = through(first * share * (target - 1.0 / way))
        velocity, change = jnp.zeros_like(coefficients), jnp.zeros_like(latent)
        for step in range(self.steps):
            error = target - jax.nn.softmax(text_logits + latent, axis=-1) - decay * coefficients
            rate = _positive(RATE, params["rate"][step])
            solved, gained = through(rate * share * error)
            velocity, change = momentum * velocity + solved, momentum * change + gained
            coefficients, latent = coefficients + velocity, latent + change
        return coefficients

    def logits(self, state: State, query: Float[Array, "query dim"]) -> Float[Array, "query way"]:
        """Return the text's logits plus what the shots correct in them."""
        placed = embed(query, state["centre"], state["metric"])
        corrected = kernel_sums(placed, state["keys"], state["coefficients"], state["beta"])
        return query.astype(jnp.float32) @ state["weights"].T + corrected


def _positive(start: float, leaf: Float[Array, ""]) -> Float[Array, ""]:
    return start * jnp.exp(SPEED * leaf)
