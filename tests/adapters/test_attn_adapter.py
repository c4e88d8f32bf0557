"""Attn-Adapter equals its equations in PyTorch, trains alike, and starts where it says."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fsclip_jax.adapters.attn_adapter import QUERIES_AT_ONCE, AttnAdapter, look
from fsclip_jax.adapters.base import query_logits
from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.numerics import l2_normalize

DIM, HIDDEN, PATCHES, STEPS, RATE, DECAY = 16, 12, 5, 50, 3e-3, 1e-2
ADAPTER = AttnAdapter(hidden=HIDDEN)


def spread(params, seed=0):
    """Parameters at which attention and gate matter, every one of them."""
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    shaken = [jnp.asarray(rng.normal(size=x.shape) * 0.6, jnp.float32) for x in leaves]
    return jax.tree.unflatten(structure, shaken)


def flat(params):
    named = jax.tree_util.tree_leaves_with_path(params)
    return {".".join(entry.key for entry in path): np.array(leaf) for path, leaf in named}


def plain_task(task):
    names = {"support": task.support, "mask": task.support_mask, "text": task.text}
    return {name: np.array(x) for name, x in names.items()} | {"logit_scale": 100.0}


def patches_of(query, seed=0):
    noise = np.random.default_rng(seed).normal(size=(*query.features.shape[:-1], PATCHES, DIM))
    return l2_normalize(query.features[..., None, :] + 0.3 * jnp.asarray(noise, jnp.float32))


@pytest.fixture(scope="module")
def start():
    return ADAPTER.init(jax.random.key(0), DIM)


@pytest.fixture(scope="module")
def uneven():
    task, query = example_task(way=5, shot=4, query=9, dim=DIM)
    mask = jnp.arange(4)[None] < jnp.array([4, 3, 1, 0, 2])[:, None]
    return task._replace(support_mask=mask), query._replace(patches=patches_of(query))


@pytest.mark.parametrize("patches", [False, True])
def test_logits_equal_the_published_equations(start, uneven, patches):
    pytest.importorskip("torch")
    from published import attn_adapter as published

    task, query = uneven
    params = spread(start)
    query = query if patches else query._replace(patches=None)
    ours = query_logits(ADAPTER, ADAPTER.fit(params, task, jax.random.key(0)), query)
    named = {name: _torch(x) for name, x in flat(params).items()}
    queries = (query.features, query.patches) if patches else (query.features,)
    theirs = published.logits(published.fit(plain_task(task), named), *map(np.array, queries))
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * 100)
    assert np.abs(ours - 100 * query.features @ task.text.T).max() > 1


def _torch(array):
    import torch

    return torch.tensor(array)


@pytest.mark.parametrize("patches", [False, True])
def test_fifty_steps_of_training_lose_alike(start, patches):
    pytest.importorskip("torch")
    from published import attn_adapter as published

    pairs = [example_task(way=5, shot=3, query=10, dim=DIM, seed=seed) for seed in range(STEPS)]
    pairs = [(t._replace(logit_scale=jnp.float32(20.0)), q) for t, q in pairs]
    if patches:
        pairs = [(t, q._replace(patches=patches_of(q, i))) for i, (t, q) in enumerate(pairs)]
    optimizer = optax.adamw(RATE, weight_decay=DECAY)

    def loss_of(params, task, query):
        found = query_logits(ADAPTER, ADAPTER.fit(params, task, jax.random.key(0)), query)
        return optax.softmax_cross_entropy_with_integer_labels(found, query.labels).mean()

    def step(carry, episode):
        params, memory = carry
        loss, gradient = jax.value_and_grad(loss_of)(params, *episode)
        updates, memory = optimizer.update(gradient, memory, params)
        return (optax.apply_updates(params, updates), memory), loss

    episodes = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pairs)
    first = (start, optimizer.init(start))
    (trained, _), losses = jax.jit(lambda: jax.lax.scan(step, first, episodes))()

    tasks = [plain_task(task) | {"logit_scale": 20.0} for task, _ in pairs]
    parts = ("features", "labels", "patches") if patches else ("features", "labels")
    queries = [[np.array(getattr(q, part)) for part in parts] for _, q in pairs]
    _, found = published.train(flat(start), tasks, queries, RATE, DECAY)
    np.testing.assert_allclose(losses, found, atol=1e-3)
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    moved = jnp.abs(trained["local"]["gate"]["bias"]).max()
    assert (moved > 1e-3) == patches


def test_before_training_it_is_the_text_prototype(uneven):
    """But for the attention, which is almost even; with equal keys it is even."""
    task, query = uneven
    params = AttnAdapter().init(jax.random.key(0), DIM)
    params["memory"]["key"] = jax.tree.map(jnp.zeros_like, params["memory"]["key"])
    mine = AttnAdapter()
    found = query_logits(mine, mine.fit(params, task, jax.random.key(0)), query)
    other = get_adapter("text_prototype", text_in_mean=False)
    state = other.fit(other.init(jax.random.key(0), DIM), task, jax.random.key(0))
    np.testing.assert_allclose(found, query_logits(other, state, query), atol=1e-3)


def test_a_closed_gate_leaves_the_query_alone_and_an_open_one_does_not(start, uneven):
    task, query = uneven
    without = query._replace(patches=None)
    state = ADAPTER.fit(start, task, jax.random.key(0))
    expected = query_logits(ADAPTER, state, without)
    np.testing.assert_allclose(query_logits(ADAPTER, state, query), expected, atol=1e-4)
    params = spread(start)
    state = ADAPTER.fit(params, task, jax.random.key(0))
    seen, blind = query_logits(ADAPTER, state, query), query_logits(ADAPTER, state, without)
    assert jnp.abs(seen - blind).max() > 1
    one_branch = AttnAdapter(hidden=HIDDEN, local=False)
    state = one_branch.fit(params, task, jax.random.key(0))
    assert "local" not in state
    np.testing.assert_array_equal(query_logits(one_branch, state, query), blind)


def test_patches_may_come_in_any_order_and_queries_do_not_mix(start, uneven):
    task, query = uneven
    state = ADAPTER.fit(spread(start), task, jax.random.key(0))
    expected = query_logits(ADAPTER, state, query)
    turned = query._replace(patches=query.patches[:, ::-1])
    np.testing.assert_allclose(query_logits(ADAPTER, state, turned), expected, atol=1e-3)
    alone = jax.tree.map(lambda leaf: leaf[4:5], query)
    np.testing.assert_allclose(query_logits(ADAPTER, state, alone)[0], expected[4], atol=1e-3)


def test_many_queries_in_pieces_equal_all_at_once(start):
    count = QUERIES_AT_ONCE + 3
    task, query = example_task(way=3, shot=2, query=count, dim=DIM)
    patches = patches_of(query).astype(jnp.float16)
    params = spread(start)
    state = ADAPTER.fit(params, task, jax.random.key(0))
    found = jax.jit(ADAPTER.logits)(state, query.features, patches)
    whole = 100 * look(params["local"], query.features, patches) @ state["weights"].T
    np.testing.assert_allclose(found, whole, atol=1e-3)


def test_gradients_through_the_patches_are_finite(start, uneven):
    task, query = uneven
    patches = query.patches.at[0].set(0)
    features = query.features.at[1].set(0)

    def total(params, features, patches):
        state = ADAPTER.fit(params, task, jax.random.key(0))
        return jax.nn.logsumexp(ADAPTER.logits(state, features, patches), axis=-1).sum()

    gradients = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(spread(start), features, patches)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradients))


def test_the_number_of_parameters():
    count = sum(leaf.size for leaf in jax.tree.leaves(ADAPTER.init(jax.random.key(0), DIM)))
    biases = 2 * (2 * HIDDEN + 2 * DIM)
    assert count == 2 * (DIM**2 + 4 * DIM * HIDDEN) + biases
