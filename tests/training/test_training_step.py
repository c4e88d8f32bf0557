import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiles import compiled

from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.devices import data_mesh, replicated
from fsclip_jax.training.config import clip_by_norm
from fsclip_jax.training.state import init_state, run_keys
from fsclip_jax.training.step import episode_loss, loss_and_grads, make_multi_step
from fsclip_jax.training.tasks import choose_classes, make_sampler, training_episodes


def prepare(stored, recipe, n_devices=None, method="meta_adapter"):
    mesh = None if n_devices is None else data_mesh(n_devices)
    adapter = get_adapter(method)
    source, plan = training_episodes(stored, recipe, choose_classes(20, "all")[0])
    state, key = init_state(adapter, stored.dim, recipe), run_keys(recipe.seed).episodes
    multi_step = make_multi_step(adapter, recipe, make_sampler(plan, recipe.batch, mesh), mesh)
    place = jax.devices()[0] if mesh is None else replicated(mesh)
    return multi_step, *jax.device_put((state, key, (source,)), place)


def assert_trees_close(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), **tolerance)


def test_loss_is_the_mean_cross_entropy_of_the_queries_present():
    task, query = example_task(way=4, query=6)
    query = query._replace(mask=jnp.array([1, 1, 0, 1, 0, 0], bool))
    adapter, key = get_adapter("prototype"), jax.random.key(0)
    logits = np.asarray(adapter.logits(adapter.fit({}, task, key), query.features), np.float64)
    loss, accuracy = episode_loss(adapter, {}, task, query, key)
    rows = [0, 1, 3]
    labels = np.asarray(query.labels)[rows]
    log_prob = logits[rows] - np.log(np.exp(logits[rows]).sum(-1, keepdims=True))
    np.testing.assert_allclose(loss, -log_prob[np.arange(3), labels].mean(), rtol=1e-5)
    np.testing.assert_allclose(accuracy, 100 * (logits[rows].argmax(-1) == labels).mean())


def test_an_episode_without_queries_costs_nothing():
    task, query = example_task()
    query = query._replace(mask=jnp.zeros_like(query.mask))
    adapter = get_adapter("meta_adapter")
    params = adapter.init(jax.random.key(0), 8)

    def loss(params):
        return episode_loss(adapter, params, task, query, jax.random.key(0))[0]

    value, grads = jax.value_and_grad(loss)(params)
    assert value == 0
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("method", ["meta_adapter", "text_prototype", "tip_adapter"])
def test_every_method_with_parameters_learns(stored, recipe, method):
    recipe = dataclasses.replace(recipe, steps=60, learning_rate=3e-2)
    multi_step, state, key, data = prepare(stored, recipe, method=method)
    before = jax.tree.map(np.array, state.params)
    state, metrics = multi_step(state, key, data, steps=60)
    loss = np.asarray(metrics.loss)
    assert loss[-15:].mean() < loss[:15].mean()
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(state.params), strict=True):
        assert not np.array_equal(old, np.asarray(new))


def test_the_length_of_a_dispatch_does_not_change_the_result(stored, recipe):
    results = []
    for length in (2, 3):
        multi_step, state, key, data = prepare(stored, recipe)
        losses = []
        while int(state.step) < 6:
            state, metrics = multi_step(state, key, data, steps=length)
            losses.append(metrics.loss)
        results.append((state.params, np.concatenate(losses)))
    assert_trees_close(*results, rtol=1e-4, atol=1e-6)


def test_the_number_of_devices_does_not_change_the_result(stored, recipe):
    recipe = dataclasses.replace(recipe, batch=8)
    results = []
    for count in (1, 4, 8):
        multi_step, state, key, data = prepare(stored, recipe, count)
        state, metrics = multi_step(state, key, data, steps=5)
        assert len(state.params["q_proj"]["weight"].sharding.device_set) == count
        results.append((state.params, metrics))
    assert_trees_close(results[0], results[1], rtol=1e-4, atol=1e-5)
    assert_trees_close(results[0], results[2], rtol=1e-4, atol=1e-5)


def test_the_batch_is_split_over_the_devices(stored, recipe):
    mesh, recipe = data_mesh(4), dataclasses.replace(recipe, batch=8)
    source, plan = training_episodes(stored, recipe, choose_classes(20, "all")[0])
    sample = jax.jit(make_sampler(plan, recipe.batch, mesh))
    key, source = jax.device_put((jax.random.key(0), source), replicated(mesh))
    task, _ = sample(key, source)
    shapes = {shard.data.shape for shard in task.support.addressable_shards}
    assert shapes == {(recipe.batch // 4, *task.support.shape[1:])}


def test_the_hot_loop_moves_nothing_between_host_and_device_and_compiles_once(stored, recipe):
    multi_step, state, key, data = prepare(stored, recipe, 2)
    state, _ = multi_step(state, key, data, steps=2)
    before = compiled()
    with jax.transfer_guard("disallow"):
        for _ in range(3):
            state, _ = multi_step(state, key, data, steps=2)
    assert compiled() == before


def test_the_episodes_of_a_step_follow_from_seed_and_step_alone(stored, recipe):
    frozen = dataclasses.replace(recipe, learning_rate=1e-30)
    multi_step, state, key, data = prepare(stored, frozen)
    later = jax.tree.map(jnp.copy, state)._replace(step=jnp.int32(4))
    losses = []
    for _ in range(3):
        state, metrics = multi_step(state, key, data, steps=2)
        losses += np.asarray(metrics.loss).tolist()
    _, again = multi_step(later, key, data, steps=2)
    np.testing.assert_allclose(losses[4:], again.loss, rtol=1e-5)
    assert len(set(losses)) == 6


@pytest.mark.parametrize("count", [1, 3])
def test_gradients_are_the_mean_over_the_episodes(count):
    adapter = get_adapter("meta_adapter")
    params = adapter.init(jax.random.key(0), 8)
    episodes = [example_task(way=4, query=6, seed=seed) for seed in range(count)]
    episodes = [(task._replace(logit_scale=jnp.float32(5)), query) for task, query in episodes]
    keys = jax.random.split(jax.random.key(1), count)

    @jax.jit
    def gradient(*given):
        return jax.grad(lambda *given: episode_loss(adapter, *given)[0])(*given)

    each = [gradient(params, *episode, key) for episode, key in zip(episodes, keys, strict=True)]
    task, query = jax.tree.map(lambda *leaves: jnp.stack(leaves), *episodes)
    _, _, grads = jax.jit(loss_and_grads(adapter))(params, task, query, keys)
    mean = jax.tree.map(lambda *leaves: sum(leaves) / count, *each)
    assert_trees_close(grads, mean, rtol=1e-5, atol=1e-7)
    assert all(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("most", [0.5, 50.0])
def test_gradients_are_clipped_by_their_norm(most):
    grads = {"a": jnp.array([3.0, 4.0]), "b": jnp.array(12.0)}
    expected, _ = optax.clip_by_global_norm(most).update(grads, optax.EmptyState())
    clip = clip_by_norm(most)
    found, state = clip.update(grads, clip.init(grads))
    assert_trees_close(found, expected, rtol=1e-6)
    assert state == optax.EmptyState()
