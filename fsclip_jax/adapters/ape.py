"""APE without training: a cache on the channels that matter, its keys weighed by the text."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import Grid, Scalars, Scaled, init_scalars
from fsclip_jax.adapters.cache import cache_votes
from fsclip_jax.adapters.channels import refined_channels
from fsclip_jax.adapters.tip_search import TipGrid, centred, key_distances, search_cache
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.numerics import cosine_logits, l2_normalize
from fsclip_jax.typing import Array, Float, Int, Params, PRNGKeyArray, State

APE_GRIDS = (
    (TipGrid(7.0, 7.0), tuple(i / 20 for i in range(20))),
    (TipGrid(30.0, 10.0), tuple(i * 1.5 / 20 for i in range(20))),
)
"""Betas and alphas, and gammas, that are searched: the published grid of most data sets, and the
widest scale of each scalar in the published number of steps."""

_SMOOTH = 1e-6  # of the published logarithms


@dataclass(frozen=True)
class Ape:
    """Adaptive prior refinement, ``logit_scale f W^T + alpha exp(-beta (1 - f' F'^T)) (L R)``.

    A prime is a feature cut down to the channels of
    :func:`fsclip_jax.adapters.channels.refined_channels` and renormalised. ``R`` gives a key
    the weight ``exp(gamma D)`` with ``D = log2(1 / p)``, ``p`` the share of its own class in
    ``softmax(F' W'^T)``: keys that the text does not see in their class count more. As
    published, that softmax is of plain cosines (no scale), so ``D`` is close to ``log2(way)``
    and ``gamma`` mostly scales ``alpha``; and the votes are not scaled by ``logit_scale``. The
    channels are judged by the text, as in the paper; the published code takes the shots along.

    ``params``: ``alpha``, the weight of the cache (0 gives zero-shot), ``beta``, its sharpness,
    ``gamma``.

    Attributes:
        keep: share of the channels that is kept. Published: 800 of 1,024 on six of eleven data
            sets.
        similarity: weight of the inter-class similarity in the choice of channels.
        variance: weight of the variance. Published: 0.7 and 0.3 on ImageNet and four others.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(Ape()).shape
        (6, 3)

    Source: Zhu et al., "Not All Features Matter: Enhancing Few-shot CLIP with Adaptive Prior
    Refinement", section 3.2; settings of its published code.
    """

    name: ClassVar[str] = "ape"
    scalars: ClassVar[Scalars] = {"alpha": 1.0, "beta": 1.0, "gamma": 0.1}
    """The setting that the published search starts from on most data sets."""
    init = init_scalars
    zero_shot_at: ClassVar[Params] = {"alpha": 0.0}
    classes_meet: ClassVar[bool] = True
    scaled: ClassVar[Scaled] = "text"
    any_shape: ClassVar[bool] = False
    grid: ClassVar[tuple[Grid, ...]] = tuple(
        Grid(late={"gamma": gammas, **grid.late}) for grid, gammas in APE_GRIDS
    )

    keep: float = 0.78125
    similarity: float = 0.7
    variance: float = 0.3

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Choose the channels, and weigh the shots by what the text sees in them."""
        del key
        channels, keys, divergence = self.refine(task)
        return {
            "weights": task.text.astype(jnp.float32),
            "channels": channels,
            "cache_keys": keys,
            "cache_mask": task.support_mask,
            "divergence": divergence,
            "logit_scale": task.logit_scale,
            **{name: params[name] for name in ("alpha", "beta", "gamma")},
        }

    def logits(self, state: State, query: Float[Array, "query dim"]) -> Float[Array, "query way"]:
        """Return the zero-shot logits plus the logits of the refined cache."""
        query = query.astype(jnp.float32)
        refined = l2_normalize(query * state["channels"][None])
        weights = state["cache_mask"] * jnp.exp(state["gamma"] * state["divergence"])
        votes = cache_votes(refined, state["cache_keys"], weights, state["beta"])
        zero_shot = cosine_logits(query, state["weights"], state["logit_scale"])
        return zero_shot + state["alpha"] * votes

    def count_right(
        self, params: Params, task: Task, query: Query, key: PRNGKeyArray
    ) -> Int[Array, " setting"]:
        """Count right answers over the grids, by the shortcuts of ``tip_search``."""
        del params, key
        channels, keys, divergence = self.refine(task)
        text = task.logit_scale * centred(task.text.astype(jnp.float32))
        distances = key_distances(keys)

        def describe(features: Array) -> tuple[Array, Array]:
            return (text @ features.T)[None], distances(l2_normalize(features * channels[None]))

        def count(grid: TipGrid, gammas: tuple[float, ...]) -> Int[Array, " setting"]:
            steepness = jnp.asarray(gammas, jnp.float32)[:, None, None]
            weights = task.support_mask[None] * jnp.exp(steepness * divergence[None])
            return search_cache(describe, weights, query, grid).ravel()

        return jnp.concatenate([count(grid, gammas) for grid, gammas in APE_GRIDS])

    def refine(
        self, task: Task
    ) -> tuple[Float[Array, " dim"], Float[Array, "way shot dim"], Float[Array, "way shot"]]:
        """Return the channels as a 0/1 mask, the refined keys, and each key's divergence ``D``."""
        text, support = task.text.astype(jnp.float32), task.support.astype(jnp.float32)
        way, dim = text.shape
        channels = refined_channels(
            text, round(self.keep * dim), similarity=self.similarity, variance=self.variance
        ).astype(jnp.float32)
        keys = l2_normalize(support * channels[None, None])
        cosine = jnp.einsum("wsd,cd->wsc", keys, l2_normalize(text * channels[None]))
        own = jnp.eye(way, dtype=bool)[:, None]
        share = jnp.sum(jnp.where(own, jax.nn.softmax(cosine, axis=-1), 0), axis=-1)
        return channels, keys, jnp.log2((1 + _SMOOTH) / (share + _SMOOTH))
