import jax
import numpy as np
import pytest

from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.fitting.draws import draws_of as leading_draws
from fsclip_jax.fitting.methods import Method
from fsclip_jax.prediction.calibrate import calibrated, fit_temperature, text_temperature
from fsclip_jax.prediction.classifier import fit_support, probabilities


def draws_of(task):
    return leading_draws(jax.tree.map(lambda leaf: leaf[None], task))


def method_of(name, params):
    return (Method(name, get_adapter(name), params),)


@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_the_temperature_of_the_labels_is_found(true):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20000, 5))
    chances = np.exp(logits / true)
    chances /= chances.sum(-1, keepdims=True)
    labels = (chances.cumsum(-1) < rng.random((len(logits), 1))).sum(-1)
    assert fit_temperature(logits, labels).value == pytest.approx(true, rel=0.05)


def test_the_prior_decides_where_pictures_are_few_and_is_nothing_where_they_are_many():
    logits, labels = np.array([[3.0, 0.0]]), np.zeros(1, int)
    found = [
        fit_temperature(logits.repeat(n, 0), labels.repeat(n), expected=2.0).value
        for n in (1, 10, 100, 10_000)
    ]
    # All are right: the more there are, the surer it may be.
    assert 1.8 < found[0] < 2.0
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.5
    none = fit_temperature(logits[:0], labels[:0], expected=2.0)
    assert (none.value, none.images) == (2.0, 0)
    # The most probable log T of (log T - log 2)^2 / (2 0.4^2) + n log(1 + exp(-3 / T)), by hand.
    grid = np.linspace(-2, 2, 200_001)
    cost = 10 * np.log1p(np.exp(-3 * np.exp(-grid))) + (grid - np.log(2)) ** 2 / 0.32
    assert np.log(found[1]) == pytest.approx(grid[cost.argmin()], abs=1e-3)


@pytest.mark.parametrize("pictures", [2, 12, 20])
def test_few_labelled_pictures_bear_no_certainty(pictures):
    logits = np.array([[500.0, 0.0, 0.0]], np.float32).repeat(pictures, 0)
    temperature = fit_temperature(logits, np.zeros(pictures, int))
    shares = np.asarray(calibrated(logits, temperature))
    assert shares.max() < 1 - 0.5 / (10 * pictures + 1)
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-6)
    # A tenth of a picture is spread over all classes.
    assert shares[0, 1] == pytest.approx(0.1 / (pictures + 0.1) / 3, rel=1e-3)


def test_the_text_tells_how_sure_its_clip_may_be_the_less_the_more_shots():
    task, _ = example_task(way=5, shot=1)
    draws = draws_of(task)
    logits = 100 * np.asarray(task.support)[:, 0] @ np.asarray(task.text).T
    alone = fit_temperature(logits, np.arange(5)).value
    assert alone > 1.5  # noisy pictures at a scale of 100
    assert text_temperature(draws) == pytest.approx(alone, rel=1e-5)
    four = jax.tree.map(lambda leaf: leaf.repeat(4, 2) if leaf.ndim > 2 else leaf, draws)
    four = four._replace(task=draws.task._replace(support_mask=np.ones((1, 5, 4), bool)))
    of_text = fit_temperature(logits.repeat(4, 0), np.arange(5).repeat(4)).value
    assert text_temperature(four) == pytest.approx(of_text**0.25, rel=1e-5)


def test_probabilities_are_softer_for_a_larger_temperature_and_order_stays():
    task, query = example_task(way=4, shot=8, query=40)
    task = task._replace(logit_scale=np.float32(10))
    method = method_of("text_prototype", {"gate": np.float32(0.5)})
    fitted = fit_support(draws_of(task), "abcd", method)
    plain = fit_support(draws_of(task), "abcd", method, calibrate=False)
    assert fitted.temperature.images == 32
    assert (plain.temperature.value, plain.temperature.even) == (1.0, 0.0)
    ours, theirs = probabilities(fitted, query.features), probabilities(plain, query.features)
    np.testing.assert_allclose(ours.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(ours.argmax(-1), theirs.argmax(-1))
    scaled = np.log(theirs) / fitted.temperature.value
    scaled = np.exp(scaled - scaled.max(-1, keepdims=True))
    even = 0.1 / 32.1
    expected = (1 - even) * scaled / scaled.sum(-1, keepdims=True) + even / 4
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-6)


def test_no_picture_gives_no_probability():
    task, _ = example_task(way=4, shot=8)
    fitted = fit_support(draws_of(task), "abcd", method_of("prototype", {}))
    assert probabilities(fitted, np.zeros((0, 8), np.float32)).shape == (0, 4)
