"""Gaussian classes with one covariance: the part that GDA and TIMO share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import Adapter
from fsclip_jax.numerics import cosine_logits
from fsclip_jax.typing import Array, Float, State

NO_SCATTER = 1e-3
TYPICAL_SCATTER = 0.2
"""Where the rows scatter less than the first number around the means of their classes (trace of
the covariance), they tell nothing about the covariance: then it is isotropic with this trace, a
round number near that of the train images of Caltech (0.18) and of the emoji (0.28)."""


class Gaussian(NamedTuple):
    """Log-density of every class as a linear function of the features, ``f . w_c + b_c``."""

    weights: Float[Array, "way dim"]
    bias: Float[Array, " way"]


def logits_of_gaussian(
    _adapter: Adapter, state: State, query: Float[Array, "query dim"]
) -> Float[Array, "query way"]:
    """Return the logits of the text plus ``alpha`` times the log-densities."""
    query = query.astype(jnp.float32)
    density = query @ state["weights"].T + state["bias"][None]
    return cosine_logits(query, state["text"], state["logit_scale"]) + state["alpha"] * density


def fit_gaussian(rows: Float[Array, "way row dim"], counts: Float[Array, "way row"]) -> Gaussian:
    """Fit one Gaussian a class, all with the same shrunken covariance.

    With the class means ``m_c``, their mean ``m``, the covariance ``S`` of the rows around the
    mean of their class and ``N`` rows::

        P = (S + tr(S) / (N - 1) I)^-1
        w_c = P (m_c - m)        b_c = -(m + m_c) . w_c / 2

    The log-densities are those relative to a Gaussian around ``m``: the same number less for every
    class, so that a class without rows fits in with 0. ``P`` is the estimate of Kubokawa and
    Srivastava less its factor ``dim / (N - 1)``. Solved by Cholesky: the shrinkage bounds the
    condition number by ``N``.

    A row stands for ``counts`` samples; 0 leaves it out. A class without rows has weight and bias
    0.

    Example:
        >>> rows = jnp.array([[[1.0, 0.0], [1.0, 0.2]], [[0.0, 1.0], [0.2, 1.0]]])
        >>> densities = fit_gaussian(rows, jnp.ones((2, 2)))
        >>> (rows[0] @ densities.weights.T + densities.bias[None]).argmax(-1).tolist()
        [0, 0]

    Source: Wang et al., "A Hard-to-Beat Baseline for Training-Free CLIP-Based Adaptation",
    section 3.2.
    """
    dim = rows.shape[-1]
    size = counts.sum(-1, keepdims=True)
    present = size > 0
    means = jnp.einsum("wrd,wr->wd", rows, counts) / jnp.where(present, size, 1.0)
    centred = (rows - means[:, None]) * jnp.sqrt(counts)[..., None]
    degrees = jnp.maximum(counts.sum() - 1, 1)
    covariance = jnp.einsum("wrd,wre->de", centred, centred) / degrees
    trace = jnp.trace(covariance)
    isotropic = jnp.where(trace > NO_SCATTER, 0.0, TYPICAL_SCATTER)
    shrinkage = isotropic / dim + (trace + isotropic) / degrees
    factor = jax.scipy.linalg.cho_factor(covariance + shrinkage * jnp.eye(dim), lower=True)

    centre = jnp.sum(jnp.where(present, means, 0), axis=0) / jnp.maximum(present.sum(), 1)
    offset = jnp.where(present, means - centre[None], 0.0)
    weights = jax.scipy.linalg.cho_solve(factor, offset.T).T
    return Gaussian(weights, -jnp.sum(weights * (centre[None] + offset / 2), axis=-1))
