"""Tip-X, APE and APE-T against their plain forms, and what is particular to them."""

import jax
import jax.numpy as jnp
import numpy as np
import published_forms as forms
import pytest

from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.adapters.channels import refined_channels
from fsclip_jax.adapters.search import count_late, grid_settings
from fsclip_jax.adapters.tip_x import inter_modal_votes
from fsclip_jax.episodes.task import Task

pytest.importorskip("torch")

from published import ape as published_ape
from published import ape_t as published_ape_t
from published import tip_x as published_tip_x

KEY = jax.random.key(0)


def uneven_task(way=7, shot=4, query=20, dim=32, seed=0, logit_scale=100.0):
    """Noisy features with a common part, as CLIP's have; one class has no shot."""
    task, queries = example_task(way, shot, query, dim, seed)
    rng = np.random.default_rng(seed + 50)
    common = forms.unit(rng.standard_normal(dim))

    def shift(x, towards):
        return jnp.asarray(forms.unit(0.5 * np.asarray(x) + towards))

    mask = rng.random((way, shot)) < 0.7
    mask[0], mask[1] = False, True
    task = task._replace(
        support=shift(task.support, common),
        text=shift(task.text, forms.unit(rng.standard_normal(dim))),
        support_mask=jnp.asarray(mask),
        logit_scale=jnp.float32(logit_scale),
    )
    return task, queries._replace(features=shift(queries.features, common))


def plain(task):
    """The task as the plain forms take it."""
    return {
        "support": np.array(task.support, np.float32),
        "mask": np.array(task.support_mask),
        "text": np.array(task.text, np.float32),
        "logit_scale": float(task.logit_scale),
        "views": None,
        "prompts": None,
    }


def assert_agree(ours, theirs):
    theirs = np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def numbers(**values):
    return {name: jnp.float32(value) for name, value in values.items()}


CASES = {
    "uneven": {},
    "another scale": {"logit_scale": 30.0, "seed": 1},
    "one shot": {"shot": 1, "seed": 2},
    "many classes": {"way": 40, "shot": 3, "seed": 3},
}


@pytest.fixture(params=CASES, ids=CASES)
def case(request):
    return uneven_task(**CASES[request.param])


@pytest.mark.parametrize(
    "setting",
    [
        {"alpha": 1.0, "beta": 5.5, "gamma": 1.0},
        {"alpha": 0.0, "beta": 1.0, "gamma": 7.0},
        {"alpha": 20.0, "beta": 30.0, "gamma": 0.1},
    ],
    ids=str,
)
def test_tip_x_equals_its_plain_form(case, setting):
    task, query = case
    adapter = get_adapter("tip_x")
    ours = adapter.logits(adapter.fit(numbers(**setting), task, KEY), query.features)
    state = published_tip_x.fit(plain(task), **setting)
    assert_agree(ours, published_tip_x.logits(state, np.array(query.features)))


@pytest.mark.parametrize(
    "setting",
    [
        {"alpha": 1.0, "beta": 1.0, "gamma": 0.1},
        {"alpha": 3.0, "beta": 7.0, "gamma": 1.0},
        {"alpha": 2.0, "beta": 0.5, "gamma": 0.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("config", [{}, {"keep": 0.4, "similarity": 0.2, "variance": 0.8}], ids=str)
def test_ape_equals_its_plain_form(case, setting, config):
    task, query = case
    adapter = get_adapter("ape", **config)
    ours = adapter.logits(adapter.fit(numbers(**setting), task, KEY), query.features)
    state = published_ape.fit(plain(task), **setting, **config)
    assert_agree(ours, published_ape.logits(state, np.array(query.features)))


def test_ape_t_learns_like_its_plain_form(case):
    """Fifty steps on all shots: losses within 1e-3, and the same classifier in the end."""
    task, query = case
    adapter = get_adapter("ape_t", epochs=50)
    params = numbers(alpha=2.0, beta=3.0, train_alpha=1.5, train_beta=2.0, rate=3e-3)
    descent = jax.jit(adapter.train)(params, task, KEY)
    rows = np.arange(int(task.support_mask.sum()))
    settings = {name: float(value) for name, value in params.items()}
    state = published_ape_t.fit(plain(task), **settings, batches=[rows] * 50)
    losses = np.asarray(state["losses"])
    assert losses[-1] < 0.8 * losses[0]
    np.testing.assert_allclose(descent.losses, losses, atol=1e-3 * losses[0])
    ours = adapter.logits(adapter.answer(params, task, descent.params), query.features)
    assert_agree(ours, published_ape_t.logits(state, np.array(query.features)))


def test_minibatches_and_views_are_as_one_big_table():
    """The affinities that are kept, and those computed step by step, train alike."""
    task, _ = uneven_task()
    views = jnp.repeat(task.support[:, :, None], 2, axis=2)
    adapter = get_adapter("ape_t", epochs=5, batch=7)
    params = adapter.init(KEY, 32)
    once = adapter.train(params, task, KEY)
    every_step = adapter.train(params, task._replace(views=views), KEY)
    assert once.losses.shape == (5 * 4,)
    np.testing.assert_allclose(once.losses, every_step.losses, rtol=1e-5)


def test_inter_modal_votes_are_sums_over_the_keys():
    """The sum over a class needs no divergence of its own because ``psi`` is affine."""
    task, query = uneven_task()
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
    task, _ = uneven_task()
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
    task, query = uneven_task()
    noise = 1e-5 * np.random.default_rng(0).standard_normal(task.text.shape)
    task = task._replace(text=jnp.asarray(forms.unit(np.asarray(task.text[:1]) + noise)))
    adapter = get_adapter("tip_x")
    votes = inter_modal_votes(adapter.fit(adapter.init(KEY, 32), task, KEY), query.features)
    counts = np.asarray(task.support_mask).sum(1)
    np.testing.assert_allclose(votes, np.broadcast_to(counts, votes.shape), atol=1e-5)


@pytest.mark.parametrize("count", [1, 5, 31, 32])
def test_channels_are_the_best_of_the_criterion(count):
    text = np.array(uneven_task()[0].text)
    best = published_ape.choose(published_ape.torch.tensor(text), count / 32, 0.7, 0.3)
    kept = refined_channels(jnp.asarray(text), count, similarity=0.7, variance=0.3)
    assert np.flatnonzero(kept).tolist() == sorted(best.tolist())


def test_with_one_class_all_channels_remain():
    text = jnp.asarray(forms.unit(np.random.default_rng(0).standard_normal((1, 8))))
    assert bool(refined_channels(text, 3, similarity=0.7, variance=0.3).all())


def test_channels_that_are_cut_have_no_say_in_the_cache():
    task, query = uneven_task()
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


@pytest.mark.parametrize(
    ("name", "sizes"), [("tip_x", {}), ("ape", {"shot": 2, "seed": 5}), ("ape_t", {})]
)
def test_the_search_counts_what_the_logits_say(name, sizes):
    task, query = uneven_task(query=30, dim=12, logit_scale=10.0, **sizes)
    query = query._replace(mask=query.mask.at[25:].set(False))
    adapter = get_adapter(name, **({"epochs": 3} if name == "ape_t" else {}))
    params = adapter.init(KEY, 12) | numbers(rate=0.03)
    counts = np.asarray(jax.jit(adapter.count_right)(params, task, query, KEY))
    state = adapter.fit(params, task, KEY)
    expected = np.concatenate([count_late(adapter, grid, state, query) for grid in adapter.grid])
    assert counts.shape == grid_settings(adapter)["alpha"].shape
    # A query within rounding of a tie may fall on either side, in a cell of thousands.
    assert np.abs(counts - expected).max() <= 1
    assert (counts != expected).mean() <= 2e-3
    if task.text.shape[0] > 1:
        assert expected.max() > expected.min() + 2
