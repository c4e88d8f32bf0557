"""Probabilities that mean what they say: a temperature from shots that were held out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fsclip_jax.fitting.draws import Draws
from fsclip_jax.numerics import log_sum_exp, namespace_of
from fsclip_jax.typing import Array, Float, Int

LOWEST, HIGHEST = 0.05, 20.0
"""Bounds of the temperature."""

SPREAD = 0.4
"""Standard deviation of the prior of ``log T``; measured by ``benchmarks/few_pictures.py``."""

PSEUDO = 0.1
"""Labelled pictures that count for all classes alike; a tenth of one. Measured there too."""

_MOST_READ = 2_000  # labelled pictures that the text is asked about: more say nothing new


class Temperature(NamedTuple):
    """How logits become probabilities, see :func:`calibrated`."""

    value: float
    """What they are divided by; 1 changes nothing."""
    images: int
    """Held-out images that it was fitted to."""
    before: float | None = None
    """Mean negative log-likelihood of these images at temperature 1, in nats."""
    after: float | None = None
    """The same at the temperature."""
    even: float = 0.0
    """Share of the probability that all classes get alike."""


def calibrated(
    logits: Float[Array | np.ndarray, "n way"], temperature: Temperature
) -> Float[Any, "n way"]:
    """Return ``(1 - e) softmax(logits / T) + e / way``.

    Example:
        >>> shares = calibrated(np.array([[50.0, 0.0]]), Temperature(2.0, 0, even=0.02))
        >>> [round(float(share), 3) for share in shares[0]]
        [0.99, 0.01]
    """
    xp = namespace_of(logits)
    scaled = logits / temperature.value
    powers = xp.exp(scaled - scaled.max(-1, keepdims=True))
    shares = powers / powers.sum(-1, keepdims=True)
    return (1 - temperature.even) * shares + temperature.even / logits.shape[-1]


def fit_temperature(
    logits: Float[np.ndarray, "n way"],
    labels: Int[np.ndarray, " n"],
    *,
    expected: float = 1.0,
    pictures: int | None = None,
) -> Temperature:
    """Find the most probable temperature of logits of images that the classifier did not see.

    ``T = argmin_T -sum log softmax(logits / T)[label] + (log T / expected)^2 / (2 SPREAD^2)``,
    between 0.05 and 20. The prior decides where images are few and is nothing where they are many.
    All classes share ``e = PSEUDO / (pictures + PSEUDO)`` of the probability: few labelled pictures
    bear no certainty, however far apart their logits are.

    Args:
        expected: the temperature that is taken where there is no image.
        pictures: labelled pictures of the fit; the number of images if None.

    Example:
        >>> logits = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]]).repeat(1000, 0)
        >>> labels = np.array([0, 0, 0, 1]).repeat(1000)
        >>> round(fit_temperature(logits, labels).value, 1)  # 4 / log 3, but for the prior
        3.6

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    pictures = len(labels) if pictures is None else pictures
    even = PSEUDO / (pictures + PSEUDO)
    if not len(labels):
        return Temperature(expected, 0, even=even)

    def nll(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(log_temperature)
        own = np.take_along_axis(scaled, labels[:, None], -1)[:, 0]
        return float(np.mean(log_sum_exp(scaled) - own))

    def improbability(log_temperature: float) -> float:
        away = (log_temperature - np.log(expected)) / SPREAD
        return len(labels) * nll(log_temperature) + 0.5 * float(away) ** 2

    found = _lowest(improbability, float(np.log(LOWEST)), float(np.log(HIGHEST)))
    return Temperature(float(np.exp(found)), len(labels), nll(0.0), nll(found), even)


def _lowest(function: Callable[[float], float], low: float, high: float) -> float:
    """Find where a function of one valley is lowest, to 1e-6, by golden section.

    SciPy would take longer to import than all of a warm fit takes.
    """
    ratio = (5**0.5 - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > 1e-6:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2


def text_temperature(draws: Draws) -> float:
    """Return the temperature that is expected of a fit to one draw, ``T_text^(1 / shots)``.

    ``T_text`` is the most probable one of the zero-shot logits. The text has seen no labelled
    picture, so all of them tell how sure this CLIP may be of such pictures, even one of each
    class; the more there are (``shots`` of each on average), the less the text decides.
    """
    task = draws.task
    (way, shots), plain = task.support_mask.shape[1:], np.asarray(draws.plain)[0]
    slots = every = np.flatnonzero(np.asarray(task.support_mask)[0])
    if len(slots) > _MOST_READ:
        slots = slots[np.linspace(0, len(slots) - 1, _MOST_READ).astype(int)]
    features = plain.reshape(way * shots, -1)[slots]
    logits = float(task.logit_scale[0]) * features @ np.asarray(task.text, np.float32)[0].T
    of_text = fit_temperature(logits, slots // shots).value
    return float(of_text ** (way / len(every)))
