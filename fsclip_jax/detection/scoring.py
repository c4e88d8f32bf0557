"""From what a method says of a region to the score of a detection."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fsclip_jax.typing import Float


class Found(NamedTuple):
    """Regions of one image.

    Attributes:
        boxes: left, top, width, height, in pixels.
        features: unit vectors.
        objectness: how much each looks like an object, 0 to 1; of given proposals.
        shift: added to a cosine; of an OWL-ViT.
        scale: what the shifted cosine is multiplied by; of an OWL-ViT.
    """

    image: int
    boxes: Float[np.ndarray, "region 4"]
    features: Float[np.ndarray, "region dim"]
    objectness: Float[np.ndarray, " region"] | None = None
    shift: Float[np.ndarray, " region"] | None = None
    scale: Float[np.ndarray, " region"] | None = None


@dataclass(frozen=True)
class Scoring:
    """How proposals are scored.

    Attributes:
        background: added to the cosine of a region and the background; None leaves the
            background out.
        objectness: weight of the proposal's own score, 0 to 1.
    """

    background: float | None = None
    objectness: float = 0.0


SCORINGS = tuple(
    Scoring(background, objectness)
    for background in (None, -0.2, -0.1, 0.0, 0.1, 0.2, 0.4)
    for objectness in (0.0, 0.3, 0.5, 0.7)
)
"""What is tried on val; the first of equals is taken."""


def score_proposals(
    logits: Float[np.ndarray, "region way"],
    found: Found,
    background: Float[np.ndarray, " dim"],
    logit_scale: float,
    scoring: Scoring,
) -> Float[np.ndarray, "region way"]:
    r"""Score proposals for every class, so that the background scores low.

    With ``z`` the logits of a method, ``s`` the backbone's inverse temperature, ``f`` the feature
    of the region, ``b`` the mean feature of support boxes without an object, and ``o`` the
    proposal's score:

    .. math:: p_c = \frac{e^{z_c}}{e^{s (f \cdot b + \delta)} + \sum_k e^{z_k}}, \quad
        \mathrm{score}_c = p_c^{1 - \gamma} o^\gamma

    Args:
        background: ``b``, unit length.
        logit_scale: ``s``.
        scoring: ``delta`` (its term is left out where it is None) and ``gamma``.

    Source: Gu et al., Open-Vocabulary Object Detection via Vision and Language Knowledge
    Distillation (ViLD), ICLR 2022, section 3.3, has a class for the background beside the texts,
    there a learned vector, and merges two scores by such a weighted geometric mean.
    """
    z = logits.astype(np.float64)
    top = z.max(-1, keepdims=True)
    rest = np.zeros_like(top)
    if scoring.background is not None:
        own = logit_scale * (found.features @ background + scoring.background)[:, None]
        top = np.maximum(top, own)
        rest = np.exp(own - top)
    z = np.exp(z - top)
    chance = z / (z.sum(-1, keepdims=True) + rest)
    if scoring.objectness and found.objectness is not None:
        object_score = np.maximum(found.objectness, 1e-6)[:, None].astype(np.float64)
        chance = chance ** (1 - scoring.objectness) * object_score**scoring.objectness
    scores: Float[np.ndarray, "region way"] = chance
    return scores


def score_owlvit(
    logits: Float[np.ndarray, "region way"], found: Found, logit_scale: float
) -> Float[np.ndarray, "region way"]:
    """Score the regions of an OWL-ViT: ``sigmoid((z / s + shift_i) scale_i)``.

    For a method that gives class embeddings ``z / s`` is their cosine with the region, so these
    stand in the place of the text queries; for any other it is what replaces that cosine. Scores
    are 0 to 1, one class independent of the other.
    """
    if found.shift is None or found.scale is None:
        raise ValueError("these regions are of no OWL-ViT")
    cosines = logits.astype(np.float64) / logit_scale
    z = (cosines + found.shift[:, None]) * found.scale[:, None]
    scores: Float[np.ndarray, "region way"] = 1 / (1 + np.exp(-np.clip(z, -60, 60)))
    return scores
