"""StatA: the same with statistics that are anchored to the text, for batches of any classes."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from fsclip_jax.numerics import l2_normalize
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
class StatA:
    """Gaussian mixture over the queries, held to the text by ``b_c = n_c / (n_c + anchor)``.

    ``n_c`` queries are answered ``c``: of none the class keeps the text feature ``t_c`` as its mean
    and the variances ``v`` about the texts. Else ``m_c = normalise(b_c x_c + (1 - b_c) t_c)``, and
    the variances are ``b_c`` of the queries' about ``m_c`` and ``1 - b_c`` of
    ``v + (t_c - m_c)^2``.

    Attributes:
        anchor: queries that the text counts.
        steps: updates of means and variances; the answers have one more.
        rounds: between neighbours, within an update of the answers.
        near: neighbours of a query.
        weight: power of the answers that are refined; large values give these back.

    Source: Zanella et al., "Realistic Test-Time Adaptation of Vision-Language Models", section 4
    (CVPR 2025); numbers of its published code.
    """

    anchor: float = 1.0
    steps: int = 10
    rounds: int = 5
    near: int = 3
    weight: float = 1.0

    name: ClassVar[str] = "stata"
    online: ClassVar[bool] = False
    needs_text: ClassVar[bool] = True

    def refine(self, batch: Batch) -> Float[Array, "query way"]:
        """Return the logarithms of the refined probabilities."""
        log = jax.nn.log_softmax(batch.logits.astype(jnp.float32), axis=-1)
        text, graph, z = batch.text.astype(jnp.float32), nearest(batch, self.near), jnp.exp(log)
        about = spread_by_class(weigh(z, batch), batch, text).sum(0, keepdims=True)
        start = at_least(about / jnp.maximum(batch.mask.sum(), 1))

        def answers(z: Array, mean: Array, variance: Array) -> Float[Array, "query way"]:
            fixed = self.weight * log + log_densities(batch, mean, variance) / TEMPERATURE
            return assign(fixed, z, graph, self.near, self.rounds)

        def step(_: Int[Array, ""], state: tuple[Array, Array, Array]) -> tuple[Array, ...]:
            z = jnp.exp(answers(*state))
            counted, way = weigh(z, batch), z.shape[1]
            told = jnp.zeros(way).at[z.argmax(-1)].add(batch.mask)[:, None]
            share = told / (told + self.anchor)
            own = unit_means(counted, batch, text)
            mean = l2_normalize(share * own + (1 - share) * text)
            total = counted.sum(0)[:, None]
            spread = spread_by_class(counted, batch, mean) / jnp.where(total > 0, total, 1)
            anchored = start + jnp.square(text - mean)
            return z, mean, at_least(share * spread + (1 - share) * anchored)

        first = z, text, jnp.broadcast_to(start, text.shape)
        return answers(*jax.lax.fori_loop(0, self.steps, step, first))
