"""Tip-Adapter without training: zero-shot logits plus a cache of the shots."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from fsclip_jax.adapters.base import Grid, Scalars, Scaled, init_scalars
from fsclip_jax.adapters.cache import cache_votes
from fsclip_jax.adapters.tip_search import TIP_GRIDS, search_tip
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.numerics import cosine_logits
from fsclip_jax.typing import Array, Float, Int, Params, PRNGKeyArray, State

DEFAULT_ALPHA = 1.0
DEFAULT_BETA = 5.5
"""The best setting on ImageNet in the ablation of the paper."""


@dataclass(frozen=True)
class TipAdapter:
    """Key-value cache, ``logit_scale f W^T + alpha exp(-beta (1 - f F^T)) L``.

    ``F`` are the shots and ``L`` their one-hot labels. The shots are grouped by class here, so
    the product with ``L`` is a sum over the axis ``shot``. A shot that the mask drops adds
    nothing.

    ``params``: ``alpha``, the weight of the cache (0 gives zero-shot), and ``beta``, its
    sharpness. Both are traced; :mod:`fsclip_jax.adapters.tip_search` searches them.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(TipAdapter()).shape
        (6, 3)

    Source: Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot
    Classification", section 3.1.
    """

    name: ClassVar[str] = "tip_adapter"
    scalars: ClassVar[Scalars] = {"alpha": DEFAULT_ALPHA, "beta": DEFAULT_BETA}
    """The paper's setting for ImageNet."""
    init = init_scalars
    zero_shot_at: ClassVar[Params] = {"alpha": 0.0}
    scaled: ClassVar[Scaled] = "text"
    grid: ClassVar[tuple[Grid, ...]] = tuple(Grid(late=grid.late) for grid in TIP_GRIDS)

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Keep the shots as the keys of the cache."""
        del key
        return {
            "weights": task.text,
            "cache_keys": task.support,
            "cache_mask": task.support_mask,
            "logit_scale": task.logit_scale,
            "alpha": params["alpha"],
            "beta": params["beta"],
        }

    def logits(self, state: State, query: Float[Array, "query dim"]) -> Float[Array, "query way"]:
        """Return the zero-shot logits plus the logits of the cache."""
        zero_shot = cosine_logits(query, state["weights"], state["logit_scale"])
        kept = state["cache_mask"].astype(jnp.float32)
        votes = cache_votes(query, state["cache_keys"], kept, state["beta"])
        return zero_shot + state["alpha"] * votes

    def count_right(
        self, params: Params, task: Task, query: Query, key: PRNGKeyArray
    ) -> Int[Array, " setting"]:
        """Count right answers over the grids, by the shortcuts of ``tip_search``."""
        del params, key
        return jnp.concatenate([search_tip(task, query, grid).ravel() for grid in TIP_GRIDS])
