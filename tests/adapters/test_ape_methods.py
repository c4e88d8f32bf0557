"""What is particular to Tip-X, APE and APE-T."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import published_forms as forms
import pytest
from uneven_tasks import uneven_task

from fsclip_jax.adapters.catalog import get_adapter
from fsclip_jax.adapters.channels import refined_channels
from fsclip_jax.adapters.search import count_late, grid_settings
from fsclip_jax.adapters.tip_x import inter_modal_votes
from fsclip_jax.episodes.task import Task

pytest.importorskip("torch")

from published import ape as published_ape

KEY = jax.random.key(0)


def numbers(**values):
    return {name: jnp.float32(value) for name, value in values.items()}


def test_minibatches_and_views_are_as_one_big_table():
    """The affinities that are kept, and those computed step by step, train alike."""
    task, _ = uneven_task(dim=32, logit_scale=100.0)
    views = jnp.repeat(task.support[:, :, None], 2, axis=2)
    adapter = get_adapter("ape_t", epochs=5, batch=7)
    params = adapter.init(KEY, 32)
    once = adapter.train(params, task, KEY)
    every_step = adapter.train(params, task._replace(views=views), KEY)
    assert once.losses.shape == (5 * 4,)
    np.testing.assert_allclose(once.losses, every_step.losses, rtol=1e-5)


def test_inter_modal_votes_are_sums_over_the_keys():
    """The sum over a class needs no divergence of its own because ``psi`` is affine."""
    task, query = uneven_task(dim=32, logit_scale=100.0)
    adapter = get_adapter("tip_x")
    state = adapter.fit(adapter.init(KEY, 32), task, KEY)

    def signatures(x):
        z = np.asarray(x, np.float64) @ np.asarray(task.text, np.float64).T / 0.5
        p = np.exp(z)
        return p / p.sum(-1, keepdims=True)

    own, keys = signatures(query.features), signatures(task.support)
    pairs = own[:, None, None] * (np.log(own[:, None, None]) - np.log(keys[None]))
    closeness = 1 - float(state["slope"]) * pairs.sum(-1)
    expected = (closeness * np.asarray(task.support_mask)[None]).sum(-1)
    np.testing.assert_allclose(inter_modal_votes(state, query.features), expected, atol=2e-4)
    assert closeness.max() < 1.0001


def test_divergences_among_the_support_fill_the_range_of_its_cosines():
    task, _ = uneven_task(dim=32, logit_scale=100.0)
    adapter = get_adapter("tip_x")
    state = adapter.fit(adapter.init(KEY, 32), task, KEY)
    shots = task.support[task.support_mask]
    # Each shot in a class of its own: its vote is psi itself.
    alone = state | {
        "key_sum": shots,
        "cache_weights": jnp.ones((len(shots), 1)),
        "log_mean_sum": jnp.log(jnp.mean(jnp.exp(shots @ state["signature_axes"].T), axis=-1)),
    }
    psi = inter_modal_votes(alone, shots)
    cosines = shots @ shots.T
    np.testing.assert_allclose([psi.min(), psi.max()], [cosines.min(), 1.0], atol=1e-4)


def test_classes_that_look_alike_give_no_inter_modal_votes():
    task, query = uneven_task(dim=32, logit_scale=100.0)
    noise = 1e-5 * np.random.default_rng(0).standard_normal(task.text.shape)
    task = task._replace(text=jnp.asarray(forms.unit(np.asarray(task.text[:1]) + noise)))
    adapter = get_adapter("tip_x")
    votes = inter_modal_votes(adapter.fit(adapter.init(KEY, 32), task, KEY), query.features)
    counts = np.asarray(task.support_mask).sum(1)
    np.testing.assert_allclose(votes, np.broadcast_to(counts, votes.shape), atol=1e-5)


@pytest.mark.parametrize("count", [1, 5, 31, 32])
def test_channels_are_the_best_of_the_criterion(count):
    text = np.array(uneven_task(dim=32, logit_scale=100.0)[0].text)
    best = published_ape.choose(published_ape.torch.tensor(text), count / 32, 0.7, 0.3)
    kept = refined_channels(jnp.asarray(text), count, similarity=0.7, variance=0.3)
    assert np.flatnonzero(kept).tolist() == sorted(best.tolist())


def test_with_one_class_all_channels_remain():
    text = jnp.asarray(forms.unit(np.random.default_rng(0).standard_normal((1, 8))))
    assert bool(refined_channels(text, 3, similarity=0.7, variance=0.3).all())


def test_channels_that_are_cut_have_no_say_in_the_cache():
    task, query = uneven_task(dim=32, logit_scale=100.0)
    adapter = get_adapter("ape", keep=0.5)
    state = adapter.fit(numbers(alpha=1.0, beta=1.0, gamma=0.1), task, KEY)
    state |= {"weights": jnp.zeros_like(task.text)}
    cut = state["channels"] == 0
    other = jnp.where(cut[None], query.features[::-1], query.features)
    np.testing.assert_allclose(
        adapter.logits(state, query.features), adapter.logits(state, other), rtol=1e-6
    )


def test_a_key_that_the_text_sees_elsewhere_counts_more():
    text = jnp.eye(4)[:2]
    support = jnp.asarray([[[1.0, 0, 0, 0], [0, 1.0, 0, 0]], [[0, 1.0, 0, 0], [0, 1.0, 0, 0]]])
    task = Task(support, jnp.ones((2, 2), bool), text, jnp.float32(100.0))
    _, _, divergence = get_adapter("ape", keep=1.0).refine(task)
    share = np.exp(1) / (np.exp(1) + 1)
    expected = -np.log2([[share, 1 - share], [share, share]])
    np.testing.assert_allclose(divergence, expected, rtol=1e-5)


def settings_of(scalars):
    return [dict(zip(scalars, x, strict=True)) for x in itertools.product(*scalars.values())]


@pytest.mark.parametrize(
    ("name", "sizes"), [("tip_x", {}), ("ape", {"shot": 2, "seed": 5}), ("ape_t", {})]
)
def test_the_search_counts_what_the_logits_say(name, sizes):
    task, query = uneven_task(query=30, dim=12, logit_scale=10.0, **sizes)
    query = query._replace(mask=query.mask.at[25:].set(False))
    adapter = get_adapter(name, **({"epochs": 200} if name == "ape_t" else {}))
    params, fit = adapter.init(KEY, 12), jax.jit(adapter.fit)
    counts = np.asarray(jax.jit(adapter.count_right)(params, task, query, KEY))
    expected = np.concatenate(
        [
            count_late(adapter, grid, fit(params | numbers(**refit), task, KEY), query)
            for grid in adapter.grid
            for refit in settings_of(grid.refit)
        ]
    )
    assert counts.shape == grid_settings(adapter)["alpha"].shape
    # A query within rounding of a tie may fall on either side, in a cell of thousands.
    assert np.abs(counts - expected).max() <= 1
    assert (counts != expected).mean() <= 2e-3
    if task.text.shape[0] > 1:
        assert expected.max() > expected.min() + 2
