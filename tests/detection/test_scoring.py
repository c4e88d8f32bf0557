"""Scores of proposals and of an OWL-ViT's regions."""

import numpy as np
import pytest

from fsclip_jax.detection.models import best_regions, in_pixels
from fsclip_jax.detection.scoring import SCORINGS, Found, Scoring, score_owlvit, score_proposals


@pytest.fixture
def found(rng):
    features = rng.normal(size=(7, 5))
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    return Found(3, np.ones((7, 4)), features.astype(np.float32), rng.random(7), rng.normal(size=7),
                 rng.random(7))  # fmt: skip


@pytest.mark.parametrize("scoring", SCORINGS)
def test_scores_follow_their_equation(found, rng, scoring):
    logits, background = rng.normal(size=(7, 3)) * 5, found.features[0]
    told = score_proposals(logits, found, background, 20.0, scoring)
    each = np.exp(logits)
    rest = 0.0
    if scoring.background is not None:
        rest = np.exp(20 * (found.features @ background + scoring.background))[:, None]
    chance = each / (each.sum(1, keepdims=True) + rest)
    wanted = chance ** (1 - scoring.objectness) * found.objectness[:, None] ** scoring.objectness
    assert np.allclose(told, wanted, rtol=1e-5)
    assert told.max() <= 1


def test_the_background_scores_low(found, rng):
    logits = rng.normal(size=(7, 3))
    with_it = score_proposals(logits, found, found.features[0], 20.0, Scoring(0.0))
    without = score_proposals(logits, found, found.features[0], 20.0, Scoring())
    assert (with_it < without).all()
    assert (with_it / without)[:, 0].argmin() == 0


def test_huge_logits_stay_finite(found):
    logits = np.array([[1e4, -1e4, 0.0]] * 7, np.float32)
    for scoring in SCORINGS:
        assert np.isfinite(score_proposals(logits, found, found.features[0], 1e4, scoring)).all()
    assert np.isfinite(score_owlvit(logits, found, 1e-2)).all()


def test_class_embeddings_score_as_queries_of_an_owlvit_do(found, rng):
    weights = rng.normal(size=(3, 5)).astype(np.float32)
    weights /= np.linalg.norm(weights, axis=-1, keepdims=True)
    cosines = found.features @ weights.T
    wanted = 1 / (1 + np.exp(-(cosines + found.shift[:, None]) * found.scale[:, None]))
    logits = 50 * cosines
    assert np.allclose(score_owlvit(logits, found, 50.0), wanted, atol=1e-5)


def test_regions_of_another_kind_are_refused(found):
    with pytest.raises(ValueError, match="no OWL-ViT"):
        score_owlvit(np.zeros((7, 3)), found._replace(shift=None), 1.0)


def test_the_region_of_a_box_is_the_one_that_fits_best():
    regions = np.array([[0.0, 0, 10, 10], [2, 2, 4, 4], [50, 50, 4, 4]])
    boxes = np.array([[2.0, 2, 5, 5], [30, 30, 2, 2], [0, 0, 9, 9]])
    assert best_regions(regions, boxes).tolist() == [1, 2, 0]


def test_boxes_in_pixels_stay_within_the_image():
    boxes = in_pixels(np.array([[0.5, 0.5, 1.0, 1.0], [0.0, 1.0, 0.2, 0.2]]), (40, 20))
    assert boxes.tolist() == [[0, 0, 40, 20], [0, 18, 4, 2]]
