"""Proximal kernel ridge regression with CLIP as the base."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import Grid, Scalars, Scaled, init_scalars
from fsclip_jax.adapters.search import in_blocks
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

_BETAS = np.concatenate([betas for betas, _ in GRIDS])
_NODES = 8
"""Betas at which the search factors the kernel: logits between them are interpolated."""


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
        # Of a shot that is not there the row is that of the identity, and its residual is 0.
        system = _kernel(task, keys, beta) / penalty + jnp.eye(keys.shape[0])
        factor = jax.scipy.linalg.cho_factor(system, lower=True)
        return {
            "text": text,
            "keys": keys,
            "coefficients": scale * jax.scipy.linalg.cho_solve(factor, residual),
            "beta": beta,
            "logit_scale": task.logit_scale,
        }

    def logits(self, state: State, query: Float[Array, "query dim"]) -> Float[Array, "query way"]:
        """Return the zero-shot logits plus the regression of their error."""
        query = query.astype(jnp.float32)
        zero_shot = cosine_logits(query, state["text"], state["logit_scale"])
        return zero_shot + _rbf(query, state["keys"], state["beta"]) @ state["coefficients"]

    def count_right(
        self, params: Params, task: Task, query: Query, key: PRNGKeyArray
    ) -> Int[Array, " setting"]:
        """Count right answers over the grids.

        The eigenvectors of a kernel serve all penalties, ``(K / p + I)^-1 = U p / (S + p) U^T``,
        and logits are smooth in the logarithm of beta: they are computed at a few and interpolated.
        """
        del params, key
        keys, text = _rows(task), task.text.astype(jnp.float32)
        residual = _residual(task, keys, None)
        nodes, between = _interpolation()

        def spectrum(beta: Array) -> tuple[Array, Array, Array]:
            sizes, vectors = jnp.linalg.eigh(_kernel(task, keys, beta))
            return jnp.maximum(sizes, 0), vectors, vectors.T @ residual

        sizes, vectors, turned = jax.lax.map(spectrum, nodes)

        def count(block: Query) -> Int[Array, " setting"]:
            features = block.features.astype(jnp.float32)
            zero_shot = features @ text.T
            seen = jax.vmap(lambda b, u: _rbf(features, keys, b) @ u)(nodes, vectors)

            def right(penalty: Array, between: Array) -> Int[Array, " beta"]:
                shares = penalty / (sizes + penalty)
                at_nodes = (seen * shares[:, None]) @ turned
                logits = zero_shot[None] + jnp.tensordot(between, at_nodes, axes=1)
                hits = (logits.argmax(-1) == block.labels[None]) & block.mask[None]
                return jnp.sum(hits, axis=-1, dtype=jnp.int32)

            counts, first = [], 0
            for betas, penalties in GRIDS:
                rows = between[first : first + len(betas)]
                each = jax.lax.map(lambda p, r=rows: right(p, r), jnp.float32(penalties))
                counts.append(each.T.ravel())
                first += len(betas)
            return jnp.concatenate(counts)

        blocks = in_blocks(query._replace(patches=None), len(_BETAS) * len(text))
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
    return jnp.where(kept[:, None] & kept[None], _rbf(keys, keys, beta), 0.0)


def _rbf(
    x: Float[Array, "n dim"], y: Float[Array, "m dim"], beta: Float[Array, ""]
) -> Float[Array, "n m"]:
    return jnp.exp(-beta * (1 - x @ y.T))


def _interpolation() -> tuple[Float[Array, " node"], Float[Array, "beta node"]]:
    """Chebyshev nodes in the logarithm of beta, and the matrix from them to all betas searched."""
    low, high = np.log(_BETAS.min()), np.log(_BETAS.max())
    x = np.polynomial.chebyshev.chebpts1(_NODES)
    places = (2 * np.log(_BETAS) - low - high) / (high - low)
    values = np.polynomial.chebyshev.chebvander(places, _NODES - 1)
    matrix = values @ np.linalg.inv(np.polynomial.chebyshev.chebvander(x, _NODES - 1))
    nodes = np.exp((low + high) / 2 + (high - low) / 2 * x)
    return jnp.asarray(nodes, jnp.float32), jnp.asarray(matrix, jnp.float32)
