import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.fitting.draws import draws_of as leading_draws
from fsclip_jax.fitting.methods import Method
from fsclip_jax.prediction.calibrate import ENOUGH, fit_temperature, held_out_logits
from fsclip_jax.prediction.classifier import fit_support, probabilities


def draws_of(task):
    return leading_draws(jax.tree.map(lambda leaf: leaf[None], task))


def method_of(name, params):
    return Method(name, get_adapter(name), params)


@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_the_temperature_of_the_labels_is_found(true):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20000, 5))
    chances = np.exp(logits / true)
    chances /= chances.sum(-1, keepdims=True)
    labels = (chances.cumsum(-1) < rng.random((len(logits), 1))).sum(-1)
    assert fit_temperature(logits, labels).value == pytest.approx(true, rel=0.05)


def test_few_images_leave_the_temperature_alone():
    logits, labels = np.zeros((ENOUGH, 2)), np.zeros(ENOUGH, int)
    logits[:, 1] = 5.0
    assert fit_temperature(logits[1:], labels[1:]).value == 1.0
    assert fit_temperature(logits, labels).value > 10.0


def test_every_shot_is_held_out_once_and_never_seen():
    task, _ = example_task(way=3, shot=6)
    task = task._replace(support_mask=task.support_mask.at[0, 4:].set(False))
    adapter = get_adapter("prototype")
    logits, labels = held_out_logits(adapter, {}, draws_of(task))
    assert np.bincount(labels).tolist() == [4, 6, 6]
    # Shots that are all alike within a class, but for one: the odd one is not in its own mean.
    odd = (
        jnp.broadcast_to(task.support[:, :1], task.support.shape).at[1, 0].set(-task.support[1, 0])
    )
    logits, labels = held_out_logits(adapter, {}, draws_of(task._replace(support=odd)))
    own = logits[np.arange(len(labels)), labels]
    assert own[labels == 1].min() < 0 < own[labels == 2].min()


def test_probabilities_are_softer_for_a_larger_temperature_and_order_stays():
    task, query = example_task(way=4, shot=8, query=40)
    task = task._replace(logit_scale=jnp.float32(10))
    method = method_of("text_prototype", {"gate": jnp.float32(0.5)})
    fitted = fit_support(draws_of(task), "abcd", method)
    plain = fit_support(draws_of(task), "abcd", method, calibrate=False)
    assert fitted.temperature.images == 32
    assert fitted.temperature.after <= fitted.temperature.before
    assert plain.temperature.value == 1.0
    ours, theirs = probabilities(fitted, query.features), probabilities(plain, query.features)
    np.testing.assert_allclose(ours.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(ours.argmax(-1), theirs.argmax(-1))
    scaled = np.log(theirs) / fitted.temperature.value
    scaled = np.exp(scaled - scaled.max(-1, keepdims=True))
    np.testing.assert_allclose(ours, scaled / scaled.sum(-1, keepdims=True), rtol=1e-3, atol=1e-6)


def test_no_picture_gives_no_probability():
    task, _ = example_task(way=4, shot=8)
    fitted = fit_support(draws_of(task), "abcd", method_of("prototype", {}))
    assert probabilities(fitted, np.zeros((0, 8), np.float32)).shape == (0, 4)
