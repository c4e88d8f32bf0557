"""What is particular to ridge, GDA, ProKeR, TIMO and SS-Text+, beyond their published forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsclip_jax.adapters.base import setting_of
from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.adapters.gaussian import TYPICAL_SCATTER, fit_gaussian
from fsclip_jax.adapters.search import count_right, grid_settings

KEY = jax.random.key(0)


def uneven_task(seed=0, **extras):
    """Classes of 1 to 5 shots, at a scale that is not CLIP's."""
    task, query = example_task(way=6, shot=5, query=9, dim=24, seed=seed, **extras)
    mask = jnp.arange(5)[None] < jnp.array([5, 4, 3, 2, 1, 5])[:, None]
    return task._replace(support_mask=mask, logit_scale=jnp.float32(30.0)), query


def ours(name, task, query, **params):
    adapter = get_adapter(name)
    params = {**adapter.init(KEY, 24), **{k: jnp.float32(v) for k, v in params.items()}}
    predict = jax.jit(lambda p, t, f: adapter.logits(adapter.fit(p, t, KEY), f))
    return predict(params, task, query.features)


def agree(logits, expected, *, relative):
    """Equal to 1e-4 of their range; with ``relative``, up to a number for each query."""
    logits, expected = np.asarray(logits, np.float64), np.asarray(expected, np.float64)
    if relative:
        logits = logits - logits.mean(1, keepdims=True)
        expected = expected - expected.mean(1, keepdims=True)
    assert np.abs(logits - expected).max() < 1e-4 * np.ptp(expected)


def test_densities_are_gaussian():
    """Differences between classes are those of the log-density with the shrunken covariance."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3, 40, 5)) + 2 * rng.standard_normal((3, 1, 5))
    query = rng.standard_normal((7, 5))
    found = fit_gaussian(jnp.asarray(rows, jnp.float32), jnp.ones((3, 40)))
    means = rows.mean(1)
    centred = (rows - means[:, None]).reshape(-1, 5)
    covariance = centred.T @ centred / 119
    precision = np.linalg.inv(covariance + np.trace(covariance) / 119 * np.eye(5))
    away = query[:, None] - means
    expected = -0.5 * np.einsum("qwd,de,qwe->qw", away, precision, away)
    agree(query @ np.asarray(found.weights).T + np.asarray(found.bias), expected, relative=True)


def test_one_shot_is_the_limit_of_isotropic_scatter():
    """No scatter at all classifies like much data with the typical isotropic covariance."""
    rng = np.random.default_rng(1)
    dim, way = 8, 3
    means = jnp.asarray(rng.standard_normal((way, dim)), jnp.float32)
    step = jnp.asarray(np.sqrt(TYPICAL_SCATTER) * np.concatenate([np.eye(dim), -np.eye(dim)]))
    scattered = means[:, None] + step[None].astype(jnp.float32)
    # As many images as in the one-shot task, or the shrinkage would differ.
    counts = jnp.full((way, 2 * dim), 1 / (2 * dim))
    factor = way / (way - 1)  # the covariance is divided by N - 1
    shrunk = means[:, None] + (scattered - means[:, None]) / jnp.sqrt(factor)
    limit = fit_gaussian(shrunk, counts)
    alone = fit_gaussian(means[:, None], jnp.ones((way, 1)))
    np.testing.assert_allclose(alone.weights, limit.weights, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(alone.bias, limit.bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["gda", "timo"])
def test_a_class_without_shots_keeps_its_zero_shot_logit(name):
    task, query = uneven_task(prompts=2)
    task = task._replace(support_mask=task.support_mask.at[2].set(False))
    zero_shot = ours("zero_shot", task, query)
    logits = ours(name, task, query)
    np.testing.assert_allclose(logits[:, 2], zero_shot[:, 2], rtol=1e-5, atol=1e-4)
    assert float(jnp.abs(logits - zero_shot)[:, jnp.array([0, 1, 3])].min(0).max()) > 0.1


def test_ridge_never_predicts_a_class_without_shots():
    task, query = uneven_task()
    task = task._replace(support_mask=task.support_mask.at[0].set(False))
    logits = ours("ridge", task, query)
    np.testing.assert_allclose(logits[:, 0], 0, atol=1e-4)
    np.testing.assert_allclose(logits.sum(1), task.logit_scale, rtol=1e-4)


def test_proker_is_the_damped_regression_of_the_published_code():
    """In NumPy: the height of a label is the scale, and the penalty also weighs what is added."""
    task, query = uneven_task()
    shots, text = (np.asarray(x, float) for x in (task.support[task.support_mask], task.text))
    features = np.asarray(query.features, float)
    labels = np.eye(6)[np.nonzero(np.asarray(task.support_mask))[0]]
    system = np.exp(-2.0 * (1 - shots @ shots.T)) / 0.1 + np.eye(len(shots))
    found = np.linalg.solve(system, labels - shots @ text.T)
    expected = features @ text.T + np.exp(-2.0 * (1 - features @ shots.T)) @ found
    agree(ours("proker", task, query, beta=2.0, penalty=0.1), 30 * expected, relative=False)


def test_proker_has_the_published_setting_of_the_number_of_shots():
    adapter = get_adapter("proker")
    params = adapter.init(KEY, 24)
    for shots, expected in {
        1: (3, 0.05),
        3: (1.9566, 0.05),
        8: (1.66, 0.07),
        64: (1.7, 0.1),
    }.items():
        found = adapter.by_shots(params, jnp.ones((3, 5, shots), bool).at[:, 4].set(False))
        np.testing.assert_allclose([found["beta"], found["penalty"]], expected, rtol=1e-3)
    given = adapter.by_shots({**params, "beta": jnp.float32(9)}, jnp.ones((3, 1), bool))
    np.testing.assert_allclose([given["beta"], given["penalty"]], [9, 0.05])


def test_a_classifier_that_was_saved_before_refits_as_before():
    """With a height ProKeR is what this project called so: it meets the labels at that height."""
    task, query = uneven_task()
    query = query._replace(features=task.support[task.support_mask])
    labels = np.nonzero(np.asarray(task.support_mask))[0]
    adapter = get_adapter("proker", height=20.0)
    params = {"beta": jnp.float32(4.0), "penalty": jnp.float32(1e-4)}
    logits = adapter.logits(jax.jit(adapter.fit)(params, task, KEY), query.features)
    np.testing.assert_allclose(logits, 20 * np.eye(6)[labels], atol=0.02)


def test_timo_prefers_the_prompts_near_the_shots():
    task, _ = uneven_task(prompts=3)
    adapter = get_adapter("timo")
    params = {"alpha": jnp.float32(0), "gamma": jnp.float32(1e4)}
    text = jax.jit(adapter.fit)(params, task, KEY)["text"]
    means = np.stack([np.asarray(s[m]).mean(0) for s, m in zip(*task[:2], strict=True)])
    best = np.einsum("wpd,wd->wp", task.prompts.vectors, means).argmax(1)
    np.testing.assert_allclose(text, task.prompts.vectors[np.arange(6), best], atol=1e-5)


@pytest.mark.parametrize("name", ["ridge", "gda", "proker", "timo"])
def test_the_search_counts_what_each_setting_gets_right(name):
    task, query = uneven_task(prompts=2)
    adapter = get_adapter(name)
    params = adapter.init(KEY, 24)
    counts = jax.jit(lambda t, q: count_right(adapter, params, t, q, KEY))(task, query)
    listed = grid_settings(adapter)
    predict = jax.jit(lambda p: adapter.logits(adapter.fit(p, task, KEY), query.features))
    for place in range(0, len(counts), max(1, len(counts) // 4)):
        logits = predict({**params, **{k: jnp.float32(v[place]) for k, v in listed.items()}})
        assert int(counts[place]) == int((logits.argmax(1) == query.labels).sum())


def proker_by_hand(task, query):
    """Right answers of every setting of ProKeR, each solved."""
    way, shot, dim = task.support.shape
    text, shots = np.asarray(task.text, float), np.asarray(task.support, float).reshape(-1, dim)
    features, labels = np.asarray(query.features, float), np.asarray(query.labels)
    residual = np.repeat(np.eye(way), shot, axis=0) - shots @ text.T
    near, far = 1 - features @ shots.T, 1 - shots @ shots.T
    found = []
    for beta, penalty in zip(*grid_settings(get_adapter("proker")).values(), strict=True):
        solved = np.linalg.solve(np.exp(-beta * far) / penalty + np.eye(way * shot), residual)
        logits = features @ text.T + np.exp(-beta * near) @ solved
        found.append((logits.argmax(1) == labels).sum())
    return np.array(found)


def test_the_search_of_proker_chooses_as_if_every_setting_were_solved():
    """Few settings are solved, the logits of the others interpolated: no answer turns around."""
    adapter = get_adapter("proker")
    search = jax.jit(lambda task, query: adapter.count_right({}, task, query, KEY))
    for seed in range(6):
        task, query = example_task(way=20, shot=2, query=200, dim=12, seed=seed)
        counts, expected = np.asarray(search(task, query)), proker_by_hand(task, query)
        assert np.ptp(expected) > 15
        assert expected[counts.argmax()] == expected.max()
        assert np.abs(counts - expected).max() <= 1
        assert np.mean(counts != expected) < 0.01


@pytest.mark.parametrize("name", ["ridge", "gda", "proker", "timo"])
def test_the_default_is_on_the_grid_or_between(name):
    adapter = get_adapter(name)
    task, _ = uneven_task()
    defaults = setting_of(adapter, adapter.init(KEY, 24), task)
    for scalar, values in grid_settings(adapter).items():
        assert values.min() <= float(defaults[scalar]) <= values.max()


def test_ss_text_plus_counts_text_less_the_more_shots_a_class_has():
    """Equal shots, once, twice and four times over: the text of the class turns less and less."""
    task, _ = example_task(way=3, shot=4, dim=24)
    shot = task.support[0, 0]
    same = jnp.broadcast_to(shot, (3, 4, 24))
    mask = jnp.arange(4)[None] < jnp.array([1, 2, 4])[:, None]
    task = task._replace(support=same, support_mask=mask, logit_scale=jnp.float32(2.0))
    weights = np.asarray(get_adapter("ss_text_plus").fit({}, task, KEY)["weights"])
    for index, count in enumerate((1, 2, 4)):
        expected = np.asarray(task.text[index]) + 2 * count / 7 * count * np.asarray(shot)
        expected = expected / np.linalg.norm(expected)
        np.testing.assert_allclose(weights[index], expected, atol=1e-6)


@pytest.mark.parametrize("repel", [False, True])
def test_ss_text_plus_leaves_a_class_without_shots_its_text(repel):
    task, _ = uneven_task()
    task = task._replace(support_mask=task.support_mask.at[2].set(False))
    adapter = get_adapter("ss_text_plus", repel=repel)
    weights = adapter.fit({}, task, KEY)["weights"]
    np.testing.assert_allclose(weights[2], task.text[2], atol=1e-6)
    others = jnp.array([0, 1, 3, 4, 5])
    assert float(jnp.abs(weights - task.text)[others].max(-1).min()) > 0.01


def test_ss_text_plus_repels_by_a_unit_away_from_the_others():
    task, _ = uneven_task()
    scale = jnp.float32(400.0)  # so long that a unit changes little
    task = task._replace(logit_scale=scale)
    plain, moved = (
        np.asarray(get_adapter("ss_text_plus", repel=flag).fit({}, task, KEY)["weights"])
        for flag in (False, True)
    )
    assert 1e-5 < np.abs(plain - moved).max() < 0.05
