"""TransCLIP: queries that lie together are answered alike, near what the method said of each."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from fsclip_jax.transductive.base import Batch
from fsclip_jax.transductive.mixture import (
    TEMPERATURE,
    assign,
    at_least,
    log_densities,
    nearest,
    spread_by_class,
    unit_means,
    weigh,
)
from fsclip_jax.typing import Array, Float, Int


@dataclass(frozen=True)
class TransClip:
    """Gaussian mixture over the queries, with one variance a channel for all classes.

    ``z_i = softmax(weight log y_i - |x_i - m|^2 / 2v / 50 + sum_j (w_ij + w_ji) z_j / 2 near)``,
    ``y`` what the method answers, ``w`` the cosines of neighbours. In turn the answers ``z``, the
    means (of unit length) and the variances are set to what is best given the others.

    Means start at the most confident queries of each class. Made for batches that hold
    every class: where they hold few, the others drift onto queries that are not theirs.

    Attributes:
        steps: updates of means and variances; the answers have one more.
        rounds: between neighbours, within an update of the answers.
        near: neighbours of a query.
        confident: queries that a mean starts from.
        weight: power of the answers that are refined; large values give these back.

    Source: Zanella et al., "Boosting Vision-Language Models with Transduction", section 4
    (NeurIPS 2024), without labelled shots of its own; numbers of its published code.
    """

    steps: int = 10
    rounds: int = 5
    near: int = 3
    confident: int = 8
    weight: float = 1.0

    name: ClassVar[str] = "transclip"
    online: ClassVar[bool] = False
    needs_text: ClassVar[bool] = False

    def refine(self, batch: Batch) -> Float[Array, "query way"]:
        """Return the logarithms of the refined probabilities."""
        log = jax.nn.log_softmax(batch.logits.astype(jnp.float32), axis=-1)
        dim, present = batch.features.shape[1], jnp.maximum(batch.mask.sum(), 1)
        graph, z = nearest(batch, self.near), jnp.exp(log)

        def answers(z: Array, mean: Array, variance: Array) -> Float[Array, "query way"]:
            fixed = self.weight * log + log_densities(batch, mean, variance) / TEMPERATURE
            return assign(fixed, z, graph, self.near, self.rounds)

        def step(_: Int[Array, ""], state: tuple[Array, Array, Array]) -> tuple[Array, ...]:
            z = jnp.exp(answers(*state))
            counted = weigh(z, batch)
            mean = unit_means(counted, batch, state[1])
            variance = spread_by_class(counted, batch, mean).sum(0, keepdims=True) / present
            return z, mean, at_least(variance)

        start = z, self._first(z, batch), jnp.full((1, dim), 1 / dim)
        return answers(*jax.lax.fori_loop(0, self.steps, step, start))

    def _first(self, z: Float[Array, "query way"], batch: Batch) -> Float[Array, "way dim"]:
        """Return the means of the most confident queries of every class."""
        values, _ = jax.lax.top_k(weigh(z, batch).T, min(self.confident, len(z)))
        kept = jnp.where(z >= values[None, :, -1], weigh(z, batch), 0.0)
        return unit_means(kept, batch, batch.text.astype(jnp.float32))
