"""Search of Tip-Adapter's two scalars over the whole published grid, in one compile.

Two facts make it cheap.

*Beta.* The cache logit ``k(beta) = sum_s exp(-beta d_s)`` is a sum of decaying exponentials, so
a polynomial through a few Chebyshev nodes gives it at all 200 betas to float32 accuracy: some
20 exponentials a key instead of 200, and none a grid point.

*Alpha.* With the zero-shot logits ``z`` and the cache logits ``k``, the true class ``y`` wins
against ``c`` while ``(z_y - z_c) + alpha (k_y - k_c) > 0``: a half line of alphas. The alphas at
which a query is right are the intersection over ``c``, an interval. One pass over the classes
gives its two ends, and those serve every alpha.

:func:`search_tip` is Tip-Adapter's search; :func:`search_cache` serves the methods that weigh the
keys, or add more than the zero-shot logits, by a third scalar.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.typing import Array, Bool, Float, Int

Describe: TypeAlias = Callable[
    [Float[Array, "query dim"]],
    tuple[Float[Array, "_ way query"], Float[Array, "shot way query"]],
]

UNIT_REACH = 2.0
"""Largest distance of two unit vectors."""

_BLOCK_ELEMENTS = 1 << 18
_ACCURACY = 1e-8
_ABSENT = 1e4  # a distance whose exponential is zero
_LARGEST_EXPONENT = 80.0  # exp of it, and of its negative, are normal float32 numbers


@dataclass(frozen=True)
class TipGrid:
    """The published grid: ``x_i = 0.1 + i (scale - 0.1) / steps``, the end left out.

    Example:
        >>> grid = TipGrid()
        >>> len(grid.betas), len(grid.alphas), float(grid.alphas[0])
        (200, 20, 0.1)
    """

    beta_scale: float = 7.0
    alpha_scale: float = 3.0
    beta_steps: int = 200
    alpha_steps: int = 20

    @property
    def betas(self) -> np.ndarray:
        """Return the betas, increasing."""
        return _axis(self.beta_scale, self.beta_steps)

    @property
    def alphas(self) -> np.ndarray:
        """Return the alphas, increasing."""
        return _axis(self.alpha_scale, self.alpha_steps)

    @property
    def late(self) -> dict[str, tuple[float, ...]]:
        """Return the two scalars as a :class:`~fsclip_jax.adapters.base.Grid` wants them."""
        return {"beta": tuple(self.betas), "alpha": tuple(self.alphas)}


TIP_GRIDS = (TipGrid(7.0, 3.0), TipGrid(50.0, 50.0))
"""Grids that are searched: that of ImageNet and the widest of the published ones.

The published code has a scale of its own for every data set. Here the selection chooses between
the narrowest and the widest of them, so that no data set is favoured by hand.
"""


def _axis(scale: float, steps: int) -> np.ndarray:
    return 0.1 + np.arange(steps) * (scale - 0.1) / steps


@partial(jax.jit, static_argnames=("grid", "reach"))
def search_tip(
    task: Task, query: Query, grid: TipGrid = TipGrid(), reach: float = UNIT_REACH
) -> Int[Array, "n_beta n_alpha"]:
    """Count the queries that Tip-Adapter classifies correctly at every point of the grid.

    Masked queries count nowhere; ``reach`` is above 2 where keys are not of unit length, see
    :func:`search_cache`.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_task
        >>> search_tip(*example_task(way=3)).shape
        (200, 20)

    Source: Zhang et al., "Tip-Adapter", section 3; grid of its published code.
    """
    text = task.logit_scale * centred(task.text.astype(jnp.float32))
    distances = key_distances(task.support)

    def describe(features: Array) -> tuple[Array, Array]:
        return (text @ features.T)[None], distances(features)

    weights = task.support_mask.astype(jnp.float32)[None]
    return search_cache(describe, weights, query, grid, reach)[0]


def centred(x: Float[Array, "way n"]) -> Float[Array, "way n"]:
    """Take off the mean over the classes: only differences matter, and so they keep more digits."""
    return x - x.mean(0, keepdims=True)


def key_distances(
    keys: Float[Array, "way shot dim"],
) -> Callable[[Float[Array, "query dim"]], Float[Array, "shot way query"]]:
    """Return the function from queries to their ``1 - f . F``, as :func:`search_cache` takes it."""
    way, shot, dim = keys.shape
    # Shot-major keys: the sum over the shots then adds whole rows.
    rows = jnp.swapaxes(keys, 0, 1).reshape(shot * way, dim).astype(jnp.float32)
    return lambda features: 1 - (rows @ features.T).reshape(shot, way, len(features))


def search_cache(
    describe: Describe,
    weights: Float[Array, "_ way shot"],
    query: Query,
    grid: TipGrid,
    reach: float = UNIT_REACH,
) -> Int[Array, "setting n_beta n_alpha"]:
    """Count the queries that ``z + alpha sum_k w_k exp(-beta d_k)`` classifies correctly.

    Classes that are equal at every alpha are told apart as by ``argmax``: the first wins. Queries
    are worked through in blocks, so memory does not grow with their number.

    Args:
        describe: from a block of query features to the logits ``z`` without the cache in every
            setting (or in one, if they are the same in all) and to the distances ``d``.
        weights: what a key counts in every setting (or in one, if it is the same in all). A key
            that counts 0 in all is no key.
        reach: a key that is farther than the nearest one by more than this counts as if by just
            this; more than 2 is possible only where keys are not of unit length.
    """
    way, shot = weights.shape[1:]
    # A block's tables stay in the cache of a core.
    block = max(8, min(128, _BLOCK_ELEMENTS // (way * (shot + 1)) // 8 * 8))
    weights = jnp.swapaxes(weights, 1, 2)
    kept = (weights != 0).any(0)
    alphas = jnp.asarray(grid.alphas, jnp.float32)[None, None, :]

    def count(block_of_queries: tuple[Array, Array, Array]) -> Int[Array, "_ n_beta n_alpha"]:
        features, labels, mask = block_of_queries
        z, distance = describe(features)
        affinity, scale = _affinities(distance, kept, grid, reach)

        def cache(weights: Array) -> Float[Array, "n_beta way query"]:
            return _cache_logits(affinity, weights, grid, reach)

        def right(z: Array, cache: Array) -> Int[Array, "n_beta n_alpha"]:
            low, high = _right_alphas(z, cache, labels)
            low, high = (low * scale)[..., None], (high * scale)[..., None]
            return jnp.sum((low < alphas) & (alphas < high) & mask[None, :, None], axis=1)

        if len(weights) > 1:
            each = jnp.broadcast_to(z, (len(weights), *z.shape[1:])), weights
            return jax.lax.map(lambda one: right(one[0], cache(one[1])), each)
        shared = cache(weights[0])
        if len(z) > 1:
            return jax.lax.map(lambda one: right(one, shared), z)
        return right(z[0], shared)[None]

    def in_blocks(x: Array) -> Array:
        padded = jnp.pad(x, [(0, -x.shape[0] % block)] + [(0, 0)] * (x.ndim - 1))
        return padded.reshape(-1, block, *x.shape[1:])

    features = query.features.astype(jnp.float32)
    counts = jax.lax.map(count, jax.tree.map(in_blocks, (features, query.labels, query.mask)))
    return counts.sum(0)


def _affinities(
    distance: Float[Array, "shot way query"],
    kept: Bool[Array, "shot way"],
    grid: TipGrid,
    reach: float,
) -> tuple[Float[Array, "node shot way query"], Float[Array, "n_beta query"]]:
    """Return ``exp(-beta (d - d_min))`` at the nodes, and ``exp(beta d_min)`` at all betas.

    ``d_min`` is the distance of a query to its nearest key: without it the sum over the shots
    would lose its digits at large betas. The second result makes up for it.
    """
    nodes, _ = interpolation(grid, reach)
    distance = jnp.where(kept[..., None], distance, _ABSENT)
    nearest = distance.min((0, 1))
    nearest = jnp.where(nearest < _ABSENT, nearest, 0.0)
    excess = distance - nearest[None, None, :]
    excess = jnp.where(kept[..., None], jnp.minimum(excess, reach), excess)
    affinity = jnp.exp(-jnp.asarray(nodes, jnp.float32)[:, None, None, None] * excess[None])
    exponent = jnp.asarray(grid.betas, jnp.float32)[:, None] * nearest[None, :]
    return affinity, jnp.exp(jnp.clip(exponent, -_LARGEST_EXPONENT, _LARGEST_EXPONENT))


def _cache_logits(
    affinity: Float[Array, "node shot way query"],
    weights: Float[Array, "shot way"],
    grid: TipGrid,
    reach: float,
) -> Float[Array, "n_beta way query"]:
    """Sum the weighted affinities over the shots, less the mean over the classes, at all betas."""
    _, from_nodes = interpolation(grid, reach)
    at_nodes = (affinity * weights[None, ..., None]).sum(1)
    at_nodes = at_nodes - at_nodes.mean(1, keepdims=True)
    return jnp.tensordot(jnp.asarray(from_nodes, jnp.float32), at_nodes, axes=1)


def _right_alphas(
    z: Float[Array, "way query"],
    k: Float[Array, "n_beta way query"],
    labels: Int[Array, "query"],
) -> tuple[Float[Array, "n_beta query"], Float[Array, "n_beta query"]]:
    """Return the open interval of alphas at which the true class has the largest logit.

    Against class ``c`` the bound is ``-(z_y - z_c) / (k_y - k_c)``: from below where the
    denominator is positive, from above where it is negative. Where it is zero, alpha decides
    nothing: the larger ``z`` wins, and of equal ones the class that comes first.
    """
    z_true = jnp.take_along_axis(z, labels[None, :], axis=0)[0]
    k_true = jnp.take_along_axis(k, labels[None, None, :], axis=1)[:, 0]

    def against(c: Array, interval: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = interval
        dz, dk = (z_true - z[c])[None, :], k_true - k[:, c]
        bound = -dz / jnp.where(dk == 0, 1.0, dk)
        lost = (dk == 0) & ((dz < 0) | ((dz == 0) & (c < labels)[None, :]))
        low = jnp.maximum(low, jnp.where(dk > 0, bound, -jnp.inf))
        low = jnp.where(lost, jnp.inf, low)
        return low, jnp.minimum(high, jnp.where(dk < 0, bound, jnp.inf))

    # A loop over the classes, not a reduction: XLA on a CPU vectorises it along the queries.
    unbounded = jnp.full_like(k_true, jnp.inf)
    return jax.lax.fori_loop(0, z.shape[0], against, (-unbounded, unbounded))


@lru_cache
def interpolation(grid: TipGrid, reach: float = UNIT_REACH) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes [n] and a matrix [n_beta n] that takes ``exp(-beta d)`` from nodes to betas.

    As few Chebyshev nodes as give an error below ``_ACCURACY`` for every ``d`` from 0 to
    ``reach``; or the betas themselves if they are as few.
    """
    betas = grid.betas
    centre, half = (betas[0] + betas[-1]) / 2, (betas[-1] - betas[0]) / 2
    distances = np.linspace(0.0, reach, 101)
    exact = np.exp(-betas[:, None] * distances)
    for n in range(2, len(betas)):
        x = np.polynomial.chebyshev.chebpts1(n)
        values = np.polynomial.chebyshev.chebvander((betas - centre) / half, n - 1)
        matrix = values @ np.linalg.inv(np.polynomial.chebyshev.chebvander(x, n - 1))
        nodes = centre + half * x
        if np.abs(matrix @ np.exp(-nodes[:, None] * distances) - exact).max() < _ACCURACY:
            return nodes, matrix
    return betas, np.eye(len(betas))
