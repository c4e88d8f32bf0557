"""Pictures of none of the classes: how familiar a picture looks, and where unknown begins.

Softmax divides one among the classes whatever the picture is, so a probability cannot say "none of
these". What can: how large the logits are at all (their energy), and how close the closest
labelled picture is; where classes are many, how evenly softmax divides it says something too.
"""

from typing import NamedTuple

import numpy as np

from fsclip_jax.numerics import log_sum_exp
from fsclip_jax.prediction.held_out import HeldOut
from fsclip_jax.typing import Bool, Float

ENOUGH = 5
"""Held-out pictures below which no threshold can be told."""

KEPT = 0.9
"""Share of the held-out pictures that stay known at least."""


class Familiar(NamedTuple):
    """What is familiar: what scores the threshold or more, see :func:`score`.

    Attributes:
        energy: mean and standard deviation of ``log sum exp logits`` of the held-out pictures.
        cosine: the same of the largest cosine to a labelled picture.
        softmax: the same of the logarithm of the largest probability, where it helps.
        kept: share of the held-out pictures that are familiar.
        caught: share of them that are not, once their own class is taken away.
    """

    energy: tuple[float, float]
    cosine: tuple[float, float]
    softmax: tuple[float, float] | None
    threshold: float = 0.0
    kept: float = 1.0
    caught: float = 0.0


def score(
    logits: Float[np.ndarray, "n way"], cosine: Float[np.ndarray, " n"], familiar: Familiar
) -> Float[np.ndarray, " n"]:
    """Return how familiar pictures look, ``sum_i (x_i - m_i) / s_i``.

    ``x`` are energy and cosine, and softmax where ``familiar`` has it; ``m`` and ``s`` are mean and
    deviation of the held-out pictures, whose scores have the mean 0 therefore.
    """
    parts = [(log_sum_exp(logits), familiar.energy), (cosine, familiar.cosine)]
    if familiar.softmax is not None:
        parts.append((_surest(logits), familiar.softmax))
    each = [(np.asarray(x, np.float64) - mean) / spread for x, (mean, spread) in parts]
    return np.asarray(np.sum(each, axis=0))


def is_familiar(
    logits: Float[np.ndarray, "n way"], cosine: Float[np.ndarray, " n"], familiar: Familiar
) -> Bool[np.ndarray, " n"]:
    """Say which pictures may be of one of the classes."""
    return np.asarray(score(logits, cosine, familiar) >= familiar.threshold)


def find_threshold(held: HeldOut) -> Familiar | None:
    """Tell familiar from unknown by held-out pictures; None where they are too few.

    Every held-out picture is asked twice: as it is, and as a picture of no class, its own being
    taken away. Softmax has a say in the score if it tells the two better apart so (it does where
    classes are many). The threshold tells most of both right, and keeps at least ``KEPT`` of the
    former.
    """
    if len(held.labels) < ENOUGH or held.logits.shape[1] < 2:
        return None
    energy, cosine = log_sum_exp(held.logits), np.maximum(held.same, held.other)
    without = Familiar(_spread(energy), _spread(cosine), None)
    scored = [
        (familiar, *_scores(held, cosine, familiar))
        for familiar in (without, without._replace(softmax=_spread(_surest(held.logits))))
    ]
    familiar, known, foreign = max(scored, key=lambda each: _apart(each[1], each[2]))
    kept = 1 - np.searchsorted(known, known) / len(known)
    caught = np.searchsorted(foreign, known) / len(foreign)
    best = int(np.argmax(np.where(kept >= KEPT, kept + caught, -1)))
    return familiar._replace(
        threshold=float(known[best]), kept=float(kept[best]), caught=float(caught[best])
    )


def _scores(held: HeldOut, cosine: np.ndarray, familiar: Familiar) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the held-out pictures, and without their own classes; both ascending."""
    foreign = held.logits.copy()
    np.put_along_axis(foreign, held.labels[:, None], -np.inf, 1)
    asked = ((held.logits, cosine), (foreign, held.other))
    known, unknown = (np.sort(score(*each, familiar)) for each in asked)
    return known, unknown


def _apart(known: np.ndarray, foreign: np.ndarray) -> float:
    """Share of pairs in which the known one scores higher; both ascending."""
    below = np.searchsorted(foreign, known) + np.searchsorted(foreign, known, "right")
    return float(below.mean() / (2 * len(foreign)))


def _surest(logits: np.ndarray) -> np.ndarray:
    return np.asarray(logits.max(-1) - log_sum_exp(logits))


def _spread(values: np.ndarray) -> tuple[float, float]:
    return float(np.mean(values)), max(float(np.std(values)), 1e-6)
