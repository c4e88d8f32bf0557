"""Pictures of none of the classes: how familiar a picture looks, and where unknown begins.

Softmax divides one among the classes whatever the picture is, so a probability cannot say "none of
these". What can: how large the logits are at all (their energy), and how close the closest
labelled picture is.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from fsclip_jax.prediction.held_out import HeldOut
from fsclip_jax.typing import Bool, Float

ENOUGH = 5
"""Held-out pictures below which no threshold can be told."""

KEPT = 0.9
"""Share of the held-out pictures that stay known at least."""


class Familiar(NamedTuple):
    """What is familiar: ``(energy - m_e) / s_e + (cosine - m_c) / s_c >= threshold``.

    Attributes:
        energy: mean and standard deviation of ``log sum exp logits`` of the held-out pictures.
        cosine: the same of the largest cosine to a labelled picture.
        kept: share of the held-out pictures that are familiar.
        caught: share of them that are not, once their own class is taken away.
    """

    energy: tuple[float, float]
    cosine: tuple[float, float]
    threshold: float
    kept: float
    caught: float


def score(
    logits: Float[np.ndarray, "n way"], cosine: Float[np.ndarray, " n"], familiar: Familiar
) -> Float[np.ndarray, " n"]:
    """Return how familiar pictures look; the held-out ones have the mean 0."""
    parts = ((logsumexp(logits, axis=-1), familiar.energy), (cosine, familiar.cosine))
    summed: np.ndarray = sum(  # type: ignore[assignment]
        (np.asarray(value, np.float64) - mean) / spread for value, (mean, spread) in parts
    )
    return summed


def is_familiar(
    logits: Float[np.ndarray, "n way"], cosine: Float[np.ndarray, " n"], familiar: Familiar
) -> Bool[np.ndarray, " n"]:
    """Say which pictures may be of one of the classes."""
    return np.asarray(score(logits, cosine, familiar) >= familiar.threshold)


def find_threshold(held: HeldOut) -> Familiar | None:
    """Tell familiar from unknown by held-out pictures; None where they are too few.

    Every held-out picture is asked twice: as it is, and as a picture of no class, its own being
    taken away. The threshold tells most of both right, and keeps at least ``KEPT`` of the former.
    """
    if len(held.labels) < ENOUGH or held.logits.shape[1] < 2:
        return None
    cosine = np.maximum(held.same, held.other)
    energy = logsumexp(held.logits, axis=-1)
    familiar = Familiar(_spread(energy), _spread(cosine), 0.0, 1.0, 0.0)
    foreign_logits = held.logits.copy()
    np.put_along_axis(foreign_logits, held.labels[:, None], -np.inf, 1)
    known = np.sort(score(held.logits, cosine, familiar))
    foreign = np.sort(score(foreign_logits, held.other, familiar))
    kept = 1 - np.searchsorted(known, known) / len(known)
    caught = np.searchsorted(foreign, known) / len(foreign)
    best = int(np.argmax(np.where(kept >= KEPT, kept + caught, -1)))
    return familiar._replace(
        threshold=float(known[best]), kept=float(kept[best]), caught=float(caught[best])
    )


def _spread(values: np.ndarray) -> tuple[float, float]:
    return float(np.mean(values)), max(float(np.std(values)), 1e-6)
