import dataclasses

import jax
import numpy as np
import optax
import pytest

from fsclip_jax.adapters.catalog import ADAPTERS, get_adapter
from fsclip_jax.errors import UserError
from fsclip_jax.training.config import (
    TrainConfig,
    check_train_config,
    learning_rate,
    meta_optimizer,
)
from fsclip_jax.training.method import chosen_anew, make_adapter
from fsclip_jax.training.state import init_state


def test_learning_rate_rises_then_falls_to_zero():
    config = TrainConfig(steps=100, warmup_steps=10, learning_rate=0.5)
    rates = np.array([float(learning_rate(config)(step)) for step in range(101)])
    assert rates[0] == 0
    assert rates.argmax() == 10
    assert rates[10] == 0.5
    assert (np.diff(rates[:11]) > 0).all()
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[100] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("warmup", [0, 1, 3, 50])
def test_a_warm_up_longer_than_the_run_leaves_finite_rates(warmup):
    rate = learning_rate(TrainConfig(steps=3, warmup_steps=warmup))
    rates = [float(rate(step)) for step in range(3)]
    assert np.isfinite(rates).all()
    assert max(rates) > 0


def test_weight_decay_shrinks_matrices_and_nothing_else():
    config = TrainConfig(steps=10, warmup_steps=0, weight_decay=0.5)
    state = init_state(get_adapter("meta_adapter"), 8, config)
    zeros = jax.tree.map(lambda leaf: leaf * 0, state.params)
    updates, _ = meta_optimizer(config).update(zeros, state.opt_state, state.params)
    after = optax.apply_updates(state.params, updates)
    assert np.linalg.norm(after["q_proj"]["weight"]) < np.linalg.norm(
        state.params["q_proj"]["weight"]
    )
    for name in ("weight", "bias"):
        np.testing.assert_array_equal(after["alpha_proj"][name], state.params["alpha_proj"][name])


def test_the_gradient_is_clipped_by_its_global_norm():
    config = TrainConfig(steps=10, warmup_steps=0, weight_decay=0.0, clip_norm=1.0)
    state = init_state(get_adapter("meta_adapter"), 8, config)
    optimizer = meta_optimizer(config)
    grads = jax.tree.map(lambda leaf: leaf + 1.0, state.params)
    grads = jax.tree.map(lambda leaf: leaf / optax.tree.norm(grads), grads)
    _, once = optimizer.update(grads, state.opt_state, state.params)
    _, hundredfold = optimizer.update(
        jax.tree.map(lambda leaf: 100 * leaf, grads), state.opt_state, state.params
    )
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(hundredfold), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_learns_of_one_task_alone_is_not_trained(name):
    """And of what an evaluation chooses for every task anew it is told."""
    config, adapter = TrainConfig(method=name), get_adapter(name)
    params = adapter.init(jax.random.key(0), 8)
    if not hasattr(adapter, "train") and jax.tree.leaves(params):
        assert make_adapter(config) == adapter
        told = chosen_anew(adapter)
        assert bool(told) == (
            name not in ("meta_adapter", "attn_adapter", "meta_prior", "meta_probe")
        )
        assert all(scalar in line for line in told for scalar in params)
        return
    with pytest.raises(UserError, match=r"nothing to learn|learns through") as caught:
        make_adapter(config)
    assert "\n" not in str(caught.value)
    assert f"`fsclip eval --methods {name}`" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("way", 1),
        ("min_shot", 17),
        ("min_shot", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("clip_norm", 0.0),
        ("seed", -1),
        ("batch", 0),
        ("views", 0),
    ],
)
def test_impossible_values_are_refused_by_name(field, value):
    config = dataclasses.replace(TrainConfig(), **{field: value})
    with pytest.raises(UserError, match=f"--{field.replace('_', '-')} is {value}, but must be"):
        check_train_config(config)
