import numpy as np
import pytest

from fsclip_jax.evaluation.metrics import (
    PER_DRAW,
    POOLED,
    Judged,
    accuracy,
    calibration_error,
    class_mean_accuracy,
    harmonic_mean,
    judge,
    mean_nll,
)
from fsclip_jax.report.metrics import METRICS


def judged(predicted, labels, mask=None, confidence=1.0, nll=0.0):
    """Predictions beside the truth; what is not given plays no part."""
    shape = np.shape(predicted)
    numbers = (np.broadcast_to(np.asarray(each, float), shape) for each in (confidence, nll))
    there = np.ones(shape, bool) if mask is None else mask
    return Judged(predicted, *numbers, np.broadcast_to(labels, shape), there)


def rightly(right, confidence, mask=None):
    """Predictions of two classes that are right or not."""
    return judged(np.where(right, 1, 0), 1, mask, confidence)


def test_accuracy_by_hand_with_a_masked_query():
    predicted = np.array([[0, 1, 2, 2], [0, 0, 0, 0]])
    labels = np.array([[0, 1, 1, 2], [0, 1, 2, 0]])
    mask = np.array([[True, True, True, False], [True, True, True, True]])
    np.testing.assert_allclose(accuracy(judged(predicted, labels, mask)), [200 / 3, 50.0])


def test_class_mean_counts_every_class_once():
    each = judged(np.array([0, 0, 0, 1, 0]), np.array([0, 0, 0, 0, 2]))
    # class 0: 3 of 4; class 1: no image; class 2: 0 of 1
    assert class_mean_accuracy(each) == pytest.approx(37.5)
    assert accuracy(each) == pytest.approx(60.0)


def test_class_mean_equals_accuracy_for_even_classes():
    rng = np.random.default_rng(0)
    labels = np.tile(np.repeat(np.arange(5), 7), (3, 1))
    each = judged(rng.integers(0, 5, labels.shape), labels)
    np.testing.assert_allclose(class_mean_accuracy(each), accuracy(each))


def test_likelihood_by_hand_with_a_masked_query():
    mask = np.array([True, True, False])
    assert mean_nll(judged(np.zeros(3, int), 0, mask, nll=[1.0, 3.0, 9.0])) == 2.0


def test_every_metric_is_one_that_a_report_can_show():
    assert PER_DRAW.keys() <= {metric.name for metric in METRICS}
    rng = np.random.default_rng(0)
    each = judged(rng.integers(0, 3, (4, 9)), rng.integers(0, 3, (4, 9)), None, 0.5)
    assert {name: values.shape for name, values in judge(each).items()} == dict.fromkeys(
        PER_DRAW, (4,)
    )
    few = judge(each, few=True)
    assert {name for name, values in few.items() if values.shape == ()} == set(POOLED)
    assert few["calibration_error"] == pytest.approx(abs(accuracy(each).mean() - 50))


def test_harmonic_mean_by_hand():
    got = harmonic_mean(np.array([80.0, 50.0, 0.0]), np.array([20.0, 50.0, 0.0]))
    np.testing.assert_allclose(got, [32.0, 50.0, 0.0])


def test_calibration_error_by_hand():
    confidence = np.array([0.9, 0.9, 0.9, 0.3, 0.3, 1.0])
    right = np.array([True, True, False, True, False, False])
    mask = np.array([True, True, True, True, True, False])
    # Three answers at 0.9 with 2/3 right, two at 0.3 with 1/2 right; the masked one is out.
    expected = 100 * (3 / 5 * abs(2 / 3 - 0.9) + 2 / 5 * abs(0.5 - 0.3))
    assert calibration_error(rightly(right, confidence, mask)) == pytest.approx(expected)
    twice = np.stack([confidence, 1 - confidence])
    both = calibration_error(rightly(np.stack([right] * 2), twice, np.stack([mask] * 2)))
    assert both.shape == (2,)
    assert both[0] == pytest.approx(expected)


def test_calibrated_answers_have_no_calibration_error():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.2, 1.0, 200_000)
    right = rng.uniform(size=confidence.size) < confidence
    assert calibration_error(rightly(right, confidence)) < 0.5
    assert calibration_error(rightly(~right, confidence)) > 20


def test_edges_of_the_bins():
    ones = np.ones(1, bool)
    for value in (0.0, 1 / 15, 1.0):
        error = calibration_error(rightly(ones, np.array([value])))
        assert error == pytest.approx(100 * (1 - value))
    # An edge belongs to the bin below it: these two share one, or do not.
    right = np.array([True, False])
    for confidence, expected in (([0.2, 0.19], 30.5), ([0.2, 0.21], 50.5)):
        error = calibration_error(rightly(right, np.array(confidence)))
        assert error == pytest.approx(expected)
