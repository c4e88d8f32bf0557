"""Proximal kernel ridge regression with CLIP as the base."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import Grid, Scalars, Scaled, init_scalars
from fsclip_jax.adapters.cache import affinities, kernel_sums
from fsclip_jax.adapters.search import answers_right, in_blocks
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.numerics import cosine_logits
from fsclip_jax.typing import Array, Bool, Float, Int, Params, PRNGKeyArray, State

PUBLISHED = {
    1: (3.0, 0.05),
    2: (2.6, 0.05),
    4: (1.5, 0.05),
    8: (1.66, 0.07),
    16: (1.7, 0.1),
}
"""Beta and penalty of the published code for ImageNet, by the number of shots."""

GRIDS = (
    (np.linspace(0.5, 3.0, 20), np.linspace(0.001, 1.0, 10)),
    (np.linspace(0.01, 5.0, 40), np.linspace(0.01, 0.3, 20)),
)
"""Betas and penalties that the published code searches, the second for fine-grained data."""

_BOUNDS = ((0.01, 5.0), (0.001, 1.0))
"""The least and the largest beta, and penalty, of the grids."""

_NODES = (12, 10)
"""Betas and penalties at which the search solves: logits between them are interpolated. Of eight
and seven, one choice in ten was another than that of all settings solved."""

_POWERS = (1 / 4, 1 / 10)
"""Of beta and penalty, in which logits are nearest to polynomials."""


@dataclass(frozen=True)
class ProKeR:
    """Regression of zero-shot's errors, ``s (f W^T + k(f, F) (K / penalty + I)^-1 (L - F W^T))``.

    ``W`` is the text, ``F`` the shots, ``L`` their one-hot labels, ``s`` the logit scale,
    ``k(x, y) = exp(-beta (1 - x . y))`` the kernel and ``K = k(F, F)``. It is kernel ridge
    regression of what cosines leave of the labels, damped by the penalty: a small one gives
    zero-shot.

    The shots are the averaged views, where the published code has one. A class without a shot has
    targets of 0 like every other class at those shots.

    ``params``: ``beta``, the sharpness of the kernel, and ``penalty``. 0 stands for the value that
    the published code has for ImageNet at this number of shots (the mean over the classes that
    have any): beta 3, 2.6, 1.5, 1.66, 1.7 and penalty 0.05, 0.05, 0.05, 0.07, 0.1 at 1, 2, 4, 8
    and 16, between them in proportion to the logarithm. Both published grids are searched, up to
    ``most_searched`` shots in all.

    Attributes:
        height: a number gives what this project had under the name before,
            ``z + k (K + penalty I)^-1 (height L - z)`` with ``z = s f W^T``, for classifiers that
            were saved then.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(ProKeR()).shape
        (6, 3)

    Source: Bendou et al., "ProKeR: A Kernel Perspective on Few-Shot Adaptation of Large
    Vision-Language Models", CVPR 2025 (arXiv 2501.11175); settings of its published code.
    """

    height: float | None = None

    name: ClassVar[str] = "proker"
    scalars: ClassVar[Scalars] = {"beta": 0.0, "penalty": 0.0}
    """The published setting of ImageNet, by the number of shots."""
    init = init_scalars
    zero_shot_at: ClassVar[Params] = {"penalty": 1e-9}
    classes_meet: ClassVar[bool] = True
    scaled: ClassVar[Scaled] = "all"
    most_searched: ClassVar[int] = 3_000
    """Shots in all up to which the scalars are searched: every beta factors the kernel of all."""
    grid: ClassVar[tuple[Grid, ...]] = tuple(
        Grid(refit={"beta": tuple(betas), "penalty": tuple(penalties)})
        for betas, penalties in GRIDS
    )

    def by_shots(self, params: Params, mask: Bool[Array, "*draw way shot"]) -> Params:
        """Return the scalars with published values in the place of 0."""
        sizes = mask.sum(-1)
        mean = sizes.sum() / jnp.maximum((sizes > 0).sum(), 1)
        place = jnp.log2(jnp.maximum(mean, 1.0))
        known = jnp.log2(jnp.asarray(list(PUBLISHED), jnp.float32))
        columns = zip(("beta", "penalty"), zip(*PUBLISHED.values(), strict=True), strict=True)
        found = {
            name: jnp.interp(place, known, jnp.asarray(column, jnp.float32))
            for name, column in columns
        }
        return {name: jnp.where(params[name] > 0, params[name], found[name]) for name in found}

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Solve for one coefficient per shot and class."""
        del key
        keys, text = _rows(task), task.text.astype(jnp.float32)
        chosen = self.by_shots(params, task.support_mask)
        beta, penalty = chosen["beta"], chosen["penalty"]
        residual, scale = _residual(task, keys, self.height), task.logit_scale
        if self.height is not None:
            scale = scale / penalty
        return {
            "text": text,
            "keys": keys,
            "coefficients": scale * _solve(_kernel(task, keys, beta), penalty, residual),
            "beta": beta,
            "logit_scale": task.logit_scale,
        }

    def logits(self, state: State, query: Float[Array, "query dim"]) -> Float[Array, "query way"]:
        """Return the zero-shot logits plus the regression of their error."""
        query = query.astype(jnp.float32)
        zero_shot = cosine_logits(query, state["text"], state["logit_scale"])
        return zero_shot + kernel_sums(query, state["keys"], state["coefficients"], state["beta"])

    def count_right(
        self, params: Params, task: Task, query: Query, key: PRNGKeyArray
    ) -> Int[Array, " setting"]:
        """Count right answers over the grids.

        Logits are smooth in beta and penalty: the regression is solved on a few Chebyshev nodes of
        both, and the logits of every setting are interpolated.
        """
        del params, key
        keys, text = _rows(task), task.text.astype(jnp.float32)
        residual = _residual(task, keys, None)
        (betas, from_betas), (penalties, from_penalties) = map(
            _interpolation, _BOUNDS, _NODES, _POWERS
        )

        def solve(beta: Array) -> Float[Array, "key penalty_x_way"]:
            kernel = _kernel(task, keys, beta)
            each = jax.lax.map(lambda penalty: _solve(kernel, penalty, residual), penalties)
            return jnp.concatenate(list(each), axis=1)

        solved = jax.lax.map(solve, betas)

        def count(block: Query) -> Int[Array, " setting"]:
            features = block.features.astype(jnp.float32)
            zero_shot = features @ text.T
            shape = (len(betas), len(features), len(penalties), len(text))
            seen = jax.lax.map(
                lambda each: affinities(features, keys, each[0]) @ each[1], (betas, solved)
            )
            by_penalty = jnp.moveaxis(seen.reshape(*shape), 2, 0).reshape(len(penalties), -1)

            def right(place: Array, weights: Array) -> Int[Array, " beta"]:
                at_nodes = (place @ by_penalty).reshape(len(betas), *zero_shot.shape)
                logits = zero_shot[None] + jnp.tensordot(weights, at_nodes, axes=1)
                hits = answers_right(logits, block.labels) & block.mask[None]
                return jnp.sum(hits, axis=-1, dtype=jnp.int32)

            counts = []
            for every_beta, every_penalty in GRIDS:
                weights = from_betas(every_beta)
                each = jax.lax.map(lambda p, w=weights: right(p, w), from_penalties(every_penalty))
                counts.append(each.T.ravel())
            return jnp.concatenate(counts)

        blocks = in_blocks(query._replace(patches=None), math.prod(_NODES) * len(text))
        return jax.lax.map(count, blocks).sum(0)


def _rows(task: Task) -> Float[Array, "key dim"]:
    way, shot, dim = task.support.shape
    return task.support.astype(jnp.float32).reshape(way * shot, dim)


def _residual(
    task: Task, keys: Float[Array, "key dim"], height: float | None
) -> Float[Array, "key way"]:
    """What the text leaves of the labels, in cosines; 0 at shots that are not there."""
    way, shot, _ = task.support.shape
    labels = jnp.repeat(jnp.eye(way), shot, axis=0)
    if height is not None:
        labels = height / task.logit_scale * labels
    left = labels - keys @ task.text.astype(jnp.float32).T
    return jnp.where(task.support_mask.reshape(-1)[:, None], left, 0.0)


def _kernel(
    task: Task, keys: Float[Array, "key dim"], beta: Float[Array, ""]
) -> Float[Array, "key key"]:
    kept = task.support_mask.reshape(-1)
    return jnp.where(kept[:, None] & kept[None], affinities(keys, keys, beta), 0.0)


def _solve(
    kernel: Float[Array, "key key"], penalty: Float[Array, ""], residual: Float[Array, "key way"]
) -> Float[Array, "key way"]:
    """The coefficients; of a shot that is not there the row is that of the identity."""
    system = kernel / penalty + jnp.eye(kernel.shape[0])
    factor = jax.scipy.linalg.cho_factor(system, lower=True)
    return jax.scipy.linalg.cho_solve(factor, residual)


def _interpolation(
    bounds: tuple[float, float], number: int, power: float
) -> tuple[Float[Array, " node"], Callable[[np.ndarray], Float[Array, "value node"]]]:
    """Chebyshev nodes in a power of a scalar, and what gives the matrix from them to values."""
    low, high = np.power(bounds, power)
    x = np.polynomial.chebyshev.chebpts1(number)
    to_terms = np.linalg.inv(np.polynomial.chebyshev.chebvander(x, number - 1))

    def matrix(values: np.ndarray) -> Float[Array, "value node"]:
        places = (2 * np.power(values, power) - low - high) / (high - low)
        terms = np.polynomial.chebyshev.chebvander(places, number - 1)
        return jnp.asarray(terms @ to_terms, jnp.float32)

    nodes = ((low + high) / 2 + (high - low) / 2 * x) ** (1 / power)
    return jnp.asarray(nodes, jnp.float32), matrix
