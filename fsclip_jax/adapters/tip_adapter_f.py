"""Tip-Adapter-F: the keys of Tip-Adapter's cache, trained on the shots they start from."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import Grid
from fsclip_jax.adapters.cache import cache_votes
from fsclip_jax.adapters.descent import (
    Batch,
    Descent,
    Recipe,
    adamw,
    cross_entropy,
    descend,
    support_rows,
)
from fsclip_jax.adapters.tip_adapter import DEFAULT_ALPHA, DEFAULT_BETA
from fsclip_jax.adapters.tip_search import TIP_GRIDS, search_tip
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.numerics import cosine_logits
from fsclip_jax.typing import Array, Float, Int, Params, PRNGKeyArray, Scalar, State

PUBLISHED_RATE = 1e-3

_EPS = 1e-4  # of the published AdamW, chosen there for float16
REACH = 8.0  # trained keys are not of unit length: distances may leave [0, 2]


@dataclass(frozen=True)
class TipAdapterF:
    """Key-value cache with trained keys, ``s f W^T + alpha sum_k exp(-beta (1 - f . F'_k))``.

    The keys ``F'`` start as the shots and minimise the cross-entropy of the same shots, each step
    in a random view, with ``alpha`` and ``beta`` fixed at ``train_alpha`` and
    ``train_beta``. Afterwards the two may be searched: one fit serves the whole grid. As in
    Tip-Adapter, the cache term is not scaled by ``s``. The published code trains at a ``beta`` of 1
    and an ``alpha`` of 1.17 to 10, by data set; here both start from Tip-Adapter's fixed setting,
    the same for all data.

    ``params``: ``alpha`` (0 gives zero-shot) and ``beta``, used in ``logits`` only; the
    training's ``train_alpha``, ``train_beta`` and learning rate ``rate``; with ``every_epoch``
    also ``epoch``, counted from 0.

    Attributes:
        epochs: times that each shot is seen; 20 is published.
        batch: most shots of a step; 256 is published.
        every_epoch: keep the keys after every epoch, and let the late scalar ``epoch`` choose. The
            published code reports the best epoch on the test images: choosing it there is for
            comparison with published numbers only.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(TipAdapterF(epochs=2)).shape
        (6, 3)

    Source: Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot
    Classification", section 3.2; optimiser and grid of its published code.
    """

    epochs: int = 20
    batch: int = 256
    every_epoch: bool = False

    name: ClassVar[str] = "tip_adapter_f"
    zero_shot_at: ClassVar[Params] = {"alpha": 0.0}

    @property
    def grid(self) -> tuple[Grid, ...]:
        """Return Tip-Adapter's grids, times the epochs if all are kept."""
        kept = {"epoch": tuple(map(float, range(self.epochs)))} if self.every_epoch else {}
        return tuple(Grid(late={**kept, **grid.late}) for grid in TIP_GRIDS)

    def init(self, key: PRNGKeyArray, dim: int) -> Params:
        """Return Tip-Adapter's fixed setting, for training and for answering."""
        del key, dim
        values = {
            "alpha": DEFAULT_ALPHA,
            "beta": DEFAULT_BETA,
            "train_alpha": DEFAULT_ALPHA,
            "train_beta": DEFAULT_BETA,
            "rate": PUBLISHED_RATE,
        }
        if self.every_epoch:
            values["epoch"] = self.epochs - 1.0
        return {name: jnp.float32(value) for name, value in values.items()}

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Train the keys."""
        late = ("alpha", "beta", *(["epoch"] if self.every_epoch else []))
        return {
            "weights": task.text.astype(jnp.float32),
            "cache_keys": self.train(params, task, key).params,
            "cache_mask": task.support_mask,
            "logit_scale": task.logit_scale,
            **{name: params[name] for name in late},
        }

    def train(self, params: Params, task: Task, key: PRNGKeyArray) -> Descent:
        """Return the trained keys [way shot dim], [epoch way shot dim] if all epochs are kept."""
        way, shot, dim = task.support.shape
        text = task.text.astype(jnp.float32)
        # Shot-major: the sum over the shots of a class adds whole rows.
        start = jnp.swapaxes(task.support.astype(jnp.float32), 0, 1).reshape(shot * way, dim)
        kept = task.support_mask.T.astype(jnp.float32)[None]

        def loss(keys: Float[Array, "key dim"], batch: Batch) -> Scalar:
            similarity = (batch.features @ keys.T).reshape(-1, shot, way)
            votes = jnp.sum(kept * jnp.exp(-params["train_beta"] * (1 - similarity)), axis=1)
            zero_shot = cosine_logits(batch.features, text, task.logit_scale)
            return cross_entropy(zero_shot + params["train_alpha"] * votes, batch)

        recipe = Recipe(adamw(_EPS), self.epochs, self.batch, keep_epochs=self.every_epoch)
        end = descend(loss, start, support_rows(task), key, params["rate"], recipe)
        keys = end.params if end.epochs is None else end.epochs
        keys = jnp.swapaxes(keys.reshape(*keys.shape[:-2], shot, way, dim), -3, -2)
        return Descent(keys, end.losses)

    def logits(self, state: State, query: Float[Array, "query dim"]) -> Float[Array, "query way"]:
        """Return the zero-shot logits plus the logits of the cache."""
        keys = state["cache_keys"]
        if self.every_epoch:
            keys = jnp.take(keys, state["epoch"].astype(jnp.int32), axis=0, mode="clip")
        kept = state["cache_mask"].astype(jnp.float32)
        votes = cache_votes(query.astype(jnp.float32), keys, kept, state["beta"])
        return cosine_logits(query, state["weights"], state["logit_scale"]) + state["alpha"] * votes

    def count_right(
        self, params: Params, task: Task, query: Query, key: PRNGKeyArray
    ) -> Int[Array, " setting"]:
        """Train once, then count right answers over the grids by the shortcuts of Tip-Adapter."""
        keys = self.train(params, task, key).params

        def count(keys: Float[Array, "way shot dim"]) -> list[Int[Array, "n_beta n_alpha"]]:
            cached = task._replace(support=keys)
            return [search_tip(cached, query, grid, REACH) for grid in TIP_GRIDS]

        counts = jax.lax.map(count, keys) if self.every_epoch else count(keys)
        return jnp.concatenate([part.ravel() for part in counts])
