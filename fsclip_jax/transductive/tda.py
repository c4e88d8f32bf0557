"""TDA: two caches of the queries so far, by how sure they were, correct the answers to the next."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from fsclip_jax.transductive.base import Batch
from fsclip_jax.typing import Array, Bool, Float


class Cache(NamedTuple):
    """Queries by the class that they were told to be; an entropy is infinite where a slot is free.

    ``marks`` says which classes an entry speaks about; it has none where that is its own alone.
    """

    keys: Float[Array, "way slot dim"]
    entropy: Float[Array, "way slot"]
    marks: Bool[Array, "way slot mark"]


@dataclass(frozen=True)
class Tda:
    """Training-free dynamic adapter, over queries in the order of their arrival.

    A query joins the positive cache of the class that it is told to be if that has room, or in the
    place of its least sure entry if it is surer; and the negative one likewise if its entropy is
    within ``doubt``. Then ``logits + alpha sum_j exp(-beta (1 - f . f_j)) o_j`` is the answer,
    ``o_j`` the class of entry ``j``, less the same over the negative entries with the classes whose
    probability was above ``marked``.

    Attributes:
        shots: entries of a class in the positive cache.
        alpha: height of the positive cache, in logits; 2 on ImageNet, 5 on Caltech-101.
        beta: sharpness of the positive cache.
        negative_shots: entries of a class in the negative cache.
        negative_alpha: height of the negative cache.
        negative_beta: sharpness of the negative cache.
        doubt: entropies of negative entries, in nats as shares of ``log2`` of the classes.
        marked: probability above which a class is one that a negative entry speaks about.

    Source: Karmanov et al., "Efficient Test-Time Adaptation of Vision-Language Models", section 3
    (CVPR 2024); numbers and the unit of entropy of its published code, those of ImageNet.
    """

    shots: int = 3
    alpha: float = 2.0
    beta: float = 5.0
    negative_shots: int = 2
    negative_alpha: float = 0.117
    negative_beta: float = 1.0
    doubt: tuple[float, float] = (0.2, 0.5)
    marked: float = 0.03

    name: ClassVar[str] = "tda"
    online: ClassVar[bool] = True
    needs_text: ClassVar[bool] = False

    def refine(self, batch: Batch) -> Float[Array, "query way"]:
        """Return the logarithms of the refined probabilities."""
        return self.stream(batch)[0]

    def stream(self, batch: Batch) -> tuple[Float[Array, "query way"], tuple[Cache, Cache]]:
        """Return the answers, and the positive and the negative cache behind the last query."""
        way, dim = batch.logits.shape[1], batch.features.shape[1]
        empty = tuple(
            Cache(
                jnp.zeros((way, slots, dim)),
                jnp.full((way, slots), jnp.inf),
                jnp.zeros((way, slots, marks), bool),
            )
            for slots, marks in ((self.shots, 0), (self.negative_shots, way))
        )

        def step(
            caches: tuple[Cache, ...], query: tuple[Array, Array, Array]
        ) -> tuple[tuple[Cache, ...], Float[Array, " way"]]:
            logits, feature, there = query
            log = jax.nn.log_softmax(logits)
            told, chance = logits.argmax(), jnp.exp(log)
            entropy = -(chance * jnp.where(chance > 0, log, 0)).sum()
            low, high = self.doubt
            share = entropy / math.log2(max(way, 2))
            doubtful = (low < share) & (share < high)
            marks = (chance > self.marked) & (chance < 1)
            positive = _entered(caches[0], told, Cache(feature, entropy, marks[:0]), there)
            negative = _entered(caches[1], told, Cache(feature, entropy, marks), there & doubtful)
            raised = _weights(positive, feature, self.beta).sum(-1)
            speaks = _weights(negative, feature, self.negative_beta).reshape(-1)
            lowered = speaks @ negative.marks.reshape(-1, way)
            corrected = logits + self.alpha * raised - self.negative_alpha * lowered
            return (positive, negative), jax.nn.log_softmax(corrected)

        queries = batch.logits.astype(jnp.float32), batch.features.astype(jnp.float32), batch.mask
        (positive, negative), logs = jax.lax.scan(step, empty, queries)
        return logs, (positive, negative)


def _entered(cache: Cache, told: Array, query: Cache, wanted: Array) -> Cache:
    """Put a query into a free slot, or into that of the least sure entry if it is surer."""
    at = told, cache.entropy[told].argmax()
    enters = wanted & (query.entropy < cache.entropy[at])
    each = (a.at[at].set(jnp.where(enters, x, a[at])) for a, x in zip(cache, query, strict=True))
    return Cache(*each)


def _weights(cache: Cache, feature: Float[Array, " dim"], beta: float) -> Float[Array, "way slot"]:
    """Return how near every entry is; 0 of a free slot."""
    weight = jnp.exp(-beta * (1 - cache.keys @ feature))
    return jnp.where(jnp.isfinite(cache.entropy), weight, 0.0)
