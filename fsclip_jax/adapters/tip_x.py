"""Tip-X without training: Tip-Adapter's cache, and a second one read through the text features."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import Grid, Scalars, Scaled, init_scalars
from fsclip_jax.adapters.cache import cache_votes
from fsclip_jax.adapters.tip_adapter import DEFAULT_ALPHA, DEFAULT_BETA
from fsclip_jax.adapters.tip_search import TipGrid, centred, key_distances, search_cache
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.numerics import cosine_logits
from fsclip_jax.typing import Array, Float, Int, Params, PRNGKeyArray, State

TIP_X_GRIDS = (
    (TipGrid(7.0, 3.0, beta_steps=20), (0.0, 0.6, 1.2, 1.8, 2.4)),
    (TipGrid(50.0, 50.0, beta_steps=20), (0.1, 6.0, 12.0, 18.0, 24.0)),
)
"""Betas and alphas, and gammas, that are searched. The second has the published scales, in coarser
steps: published are 200 betas and 50 gammas. The first is Tip-Adapter's for ImageNet."""

_ROWS = 256
"""Support images that are compared with all others at a time."""
_NO_SPREAD = 1e-7
"""A divergence that is rounding: the signatures are all alike."""


@dataclass(frozen=True)
class TipX:
    """Tip-Adapter's logits plus an inter-modal term, ``tip(f) + gamma psi(M) L``.

    The signature of an image is ``p = softmax(f W^T / temperature)``, how it looks to the text of
    every class. ``M_qk = KL(p_q || p_k)`` compares a query with a key, and ``psi`` maps the
    divergences, falling, onto the range of the cosines: ``psi(m) = 1 - (1 - a) m / m_max``.

    The published code takes both ranges from all queries of a split together, so the answer to
    one query depends on the others. Here they are those of the support compared with itself:
    ``a`` is the least cosine and ``m_max`` the largest divergence of two of its images (zero
    divergence goes with cosine one). The terms are not scaled by ``logit_scale``, and the
    signatures are of plain cosines, as published.

    Because ``psi`` is affine, the sum over the shots of a class needs no divergence of its own:
    ``sum_k M_qk = n_c H_q - E_q . sum_k F_k / temperature + sum_k log Z_k`` with
    ``E_q = p_q W``. The state keeps one vector a class for it and not a signature for every key.

    ``params``: ``alpha``, ``beta`` as in Tip-Adapter, ``gamma``, the weight of the new term (both
    weights 0 give zero-shot).

    Attributes:
        temperature: of the signatures; 0.5 is published.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(TipX()).shape
        (6, 3)

    Source: Udandarao et al., "SuS-X: Training-Free Name-Only Transfer of Vision-Language
    Models", section 3.2; temperature and scales of its published code.
    """

    name: ClassVar[str] = "tip_x"
    scalars: ClassVar[Scalars] = {"alpha": DEFAULT_ALPHA, "beta": DEFAULT_BETA, "gamma": 1.0}
    """Tip-Adapter's fixed setting, and the new term with the same weight."""
    init = init_scalars
    zero_shot_at: ClassVar[Params] = {"alpha": 0.0, "gamma": 0.0}
    classes_meet: ClassVar[bool] = True
    scaled: ClassVar[Scaled] = "text"
    any_shape: ClassVar[bool] = False
    grid: ClassVar[tuple[Grid, ...]] = tuple(
        Grid(late={"gamma": gammas, **grid.late}) for grid, gammas in TIP_X_GRIDS
    )

    temperature: float = 0.5

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Keep the shots as keys, and what the divergences to all of them add up to."""
        del key
        text, keys = task.text.astype(jnp.float32), task.support.astype(jnp.float32)
        kept = task.support_mask.astype(jnp.float32)
        axes = self._axes(text)
        _, _, log_mean = _signature(keys, axes)
        return {
            "weights": text,
            "cache_keys": keys,
            "cache_weights": kept,
            "signature_axes": axes,
            "key_sum": jnp.einsum("wsd,ws->wd", keys, kept),
            "log_mean_sum": jnp.sum(log_mean * kept, axis=-1),
            "slope": _slope(keys, kept, axes),
            "logit_scale": task.logit_scale,
            **{name: params[name] for name in ("alpha", "beta", "gamma")},
        }

    def logits(self, state: State, query: Float[Array, "query dim"]) -> Float[Array, "query way"]:
        """Return the zero-shot logits plus the logits of both caches."""
        query = query.astype(jnp.float32)
        votes = cache_votes(query, state["cache_keys"], state["cache_weights"], state["beta"])
        return (
            cosine_logits(query, state["weights"], state["logit_scale"])
            + state["alpha"] * votes
            + state["gamma"] * inter_modal_votes(state, query)
        )

    def count_right(
        self, params: Params, task: Task, query: Query, key: PRNGKeyArray
    ) -> Int[Array, " setting"]:
        """Fit once, and count right answers over the grids by the shortcuts of ``tip_search``."""
        state = self.fit(self.init(key, task.text.shape[1]) | params, task, key)
        text = task.logit_scale * centred(state["weights"])
        distances = key_distances(state["cache_keys"])

        def count(grid: TipGrid, gammas: tuple[float, ...]) -> Int[Array, " setting"]:
            weight = jnp.asarray(gammas, jnp.float32)[:, None, None]

            def describe(features: Array) -> tuple[Array, Array]:
                votes = centred(inter_modal_votes(state, features).T)
                return (text @ features.T)[None] + weight * votes[None], distances(features)

            return search_cache(describe, state["cache_weights"][None], query, grid).ravel()

        return jnp.concatenate([count(grid, gammas) for grid, gammas in TIP_X_GRIDS])

    def _axes(self, text: Float[Array, "way dim"]) -> Float[Array, "way dim"]:
        # A softmax does not see what all classes share; without it the sums keep more digits.
        return (text - text.mean(0, keepdims=True)) / self.temperature


def inter_modal_votes(state: State, query: Float[Array, "query dim"]) -> Float[Array, "query way"]:
    """Sum ``psi(KL(p_q || p_k))`` over the shots of each class.

    ``query`` is float32. A class without shots has no votes.
    """
    count = state["cache_weights"].sum(-1)
    mean_axis, relative, _ = _signature(query, state["signature_axes"])
    divergence = (
        count[None, :] * relative[:, None]
        - mean_axis @ state["key_sum"].T
        + state["log_mean_sum"][None, :]
    )
    return count[None, :] - state["slope"] * divergence


def _signature(
    x: Float[Array, "*n dim"], axes: Float[Array, "way dim"]
) -> tuple[Float[Array, "*n dim"], Float[Array, "*n"], Float[Array, "*n"]]:
    """Return ``p W'``, ``sum p log(C p)`` and ``log mean exp(f W')`` of the signatures ``p``.

    ``W'`` are the axes, and everything is relative to the even distribution over the ``C``
    classes: with a temperature of 0.5 the signatures are close to it, and their logarithms
    would leave few digits of the divergences. In these terms ``KL(p || q)`` of ``f`` and ``g``
    is ``sum p log(C p) - p W' . g + log mean exp(g W')``.
    """
    z = x @ axes.T
    log_mean = jnp.log1p(jnp.mean(jnp.expm1(z), axis=-1))
    p = jax.nn.softmax(z, axis=-1)
    return p @ axes, jnp.sum(p * z, axis=-1) - log_mean, log_mean


def _slope(
    keys: Float[Array, "way shot dim"],
    kept: Float[Array, "way shot"],
    axes: Float[Array, "way dim"],
) -> Float[Array, ""]:
    """Return ``(1 - a) / m_max`` of ``psi``; 0 where all signatures are alike."""
    flat, present = keys.reshape(-1, keys.shape[-1]), kept.reshape(-1) > 0
    mean_axis, relative, log_mean = _signature(flat, axes)

    def extremes(row: tuple[Array, ...]) -> tuple[Array, Array]:
        feature, axis, own, there = row
        pair = there & present
        cosine = jnp.where(pair, flat @ feature, 1.0)
        divergence = jnp.where(pair, own - flat @ axis + log_mean, 0.0)
        return cosine.min(), divergence.max()

    rows = (flat, mean_axis, relative, present)
    least, largest = jax.lax.map(extremes, rows, batch_size=min(_ROWS, len(flat)))
    spread = largest.max()
    alike = spread < _NO_SPREAD
    return jnp.where(alike, 0.0, (1 - least.min()) / jnp.where(alike, 1.0, spread))
