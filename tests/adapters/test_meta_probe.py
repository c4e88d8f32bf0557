"""Meta-Probe: against plain NumPy, what the statistics are and are not moved by, and its limits."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.adapters.meta_probe import START, MetaProbe, scalars_of
from fsclip_jax.adapters.task_statistics import CUT, ENOUGH, STATISTICS, look_at, statistics

KEY = jax.random.key(0)


def found_in(task):
    seen = look_at(task)
    logits = task.logit_scale * task.support.reshape(seen.rows.shape) @ task.text.T
    return statistics(task, seen, logits)


def uneven(task):
    counts = jnp.array([4, 3, 1, 0, 2])
    return task._replace(support_mask=jnp.arange(4)[None, :] < counts[:, None])


def plain(params, task, features):
    """The equations of docs/methods.md one after the other, in float64."""
    numbers = {name: float(x) for name, x in scalars_of(params, found_in(task)).items()}
    mask, text = np.asarray(task.support_mask), np.asarray(task.text, np.float64)
    shots = [np.asarray(x, np.float64)[m] for x, m in zip(task.support, mask, strict=True)]
    centre = np.mean([x.mean(0) for x in shots if len(x)], axis=0)
    means = np.array([x.mean(0) - centre if len(x) else 0 * centre for x in shots])
    x, dim = np.concatenate(shots), text.shape[1]
    labels = np.repeat(np.arange(len(shots)), [len(part) for part in shots])
    u, rest = x - centre, x - centre - means[labels]
    total, free = (u**2).sum() / len(u), len(u) - sum(len(part) > 0 for part in shots)
    within = ((rest**2).sum() + 2.8 * total) / (free + 4)
    size = (1 + free / (numbers["metric"] * dim)) / total
    prior = np.eye(dim + 1)
    prior[:dim, :dim] = (np.eye(dim) + rest.T @ rest / (numbers["metric"] * within)) / size

    def latent(x):
        return np.hstack([x - centre, np.full((len(x), 1), numbers["offset"] ** 0.5)])

    z, scale = latent(x), numbers["text"] * float(task.logit_scale)
    odds = np.exp(scale * x @ text.T)
    wrong = np.eye(len(text))[labels] - odds / odds.sum(1, keepdims=True)
    bound = prior + numbers["prior"] / numbers["damping"] * z.T @ z
    longer = np.hstack([means, np.zeros((len(means), 1))])
    step = np.linalg.inv(bound) @ (numbers["prior"] * z.T @ wrong + numbers["means"] * longer.T)
    f = np.asarray(features, np.float64)
    near = float(params["means_bias"]) * np.einsum("cd,dc->c", longer, step)
    return scale * f @ text.T + latent(f) @ step - near


def test_agrees_with_the_equations_in_numpy():
    task, query = example_task(way=5, shot=4, query=12, dim=16)
    task = uneven(task)._replace(logit_scale=jnp.float32(30.0))
    adapter = get_adapter("meta_probe")
    params = adapter.init(KEY, 16)
    got = adapter.logits(adapter.fit(params, task, KEY), query.features)
    expected = plain(params, task, query.features)
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_of_plenty_of_shots_some_tell_how_classes_scatter():
    """Shots that are there twice, one after the other, scatter alike by halves and by all."""
    task, _ = example_task(way=5, shot=8, dim=20)
    twice = task._replace(
        support=jnp.repeat(task.support, 2, axis=1),
        support_mask=jnp.repeat(task.support_mask, 2, axis=1),
    )
    once, both = look_at(task), look_at(twice)
    assert 5 * 8 < 2 * ENOUGH * 20 <= 5 * 16
    np.testing.assert_allclose(both.scatter, 2 * once.scatter, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(both.gram, 2 * once.gram, rtol=1e-4, atol=1e-5)


def test_statistics_know_no_basis_and_no_width():
    """Rotated, or with features that are always zero, a task is the same task."""
    task, _ = example_task(way=5, shot=4, dim=8)
    task = uneven(task)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 8)))[0].T
    turned = task._replace(support=task.support @ rotation, text=task.text @ rotation)
    found = found_in(task)
    np.testing.assert_allclose(found_in(turned), found, atol=1e-4)
    assert found.shape == (len(STATISTICS),)
    assert float(jnp.abs(found).max()) <= CUT


def test_statistics_see_what_is_fine_and_what_text_is_worth():
    task, _ = example_task(way=20, shot=4, dim=32, seed=1)
    named = dict(zip(STATISTICS, found_in(task), strict=True))
    centre = task.support.mean((0, 1), keepdims=True)
    near = centre + 0.3 * (task.support - centre)
    fine = dict(zip(STATISTICS, found_in(task._replace(support=near)), strict=True))
    assert fine["spread"] < named["spread"] - 0.5
    wrong = found_in(task._replace(text=jnp.roll(task.text, 1, axis=0)))
    wrong = dict(zip(STATISTICS, wrong, strict=True))
    for name in ("right", "agreement", "correlation"):
        assert wrong[name] < named[name] - 0.5, name
    assert wrong["loss"] > named["loss"] + 0.5


def test_scalars_stay_within_their_bounds():
    params = MetaProbe().init(KEY, 8)
    far = jax.tree.map(lambda x: 1e3 * x, params)
    for sign in (-1.0, 1.0):
        scalars = scalars_of(far, jnp.full(len(STATISTICS), sign * CUT))
        for name, start in START.items():
            assert start * np.exp(-4.01) < float(scalars[name]) < start * np.exp(4.01)


def test_text_that_is_wrong_counts_for_less():
    params = MetaProbe().init(KEY, 32)
    task, _ = example_task(way=20, shot=4, dim=32, seed=1)
    wrong = task._replace(text=jnp.roll(task.text, 1, axis=0))
    trusted, doubted = (scalars_of(params, found_in(each))["text"] for each in (task, wrong))
    assert float(doubted) < 0.7 * float(trusted)


MANY_DRAWS = """
import jax
from fsclip_jax.adapters.meta_probe import MetaProbe
from fsclip_jax.episodes.task import Task
draws, way, shot, dim = 5, 313, 16, 192
support = jax.random.normal(jax.random.key(0), (draws, way, shot, dim))
mask, scale = jax.numpy.ones((draws, way, shot), bool), jax.numpy.full(draws, 100.0)
task, probe = Task(support, mask, support[:, :, 0], scale), MetaProbe()
fit = jax.jit(jax.vmap(probe.fit, in_axes=(None, 0, 0)))
keys = jax.random.split(jax.random.key(2), draws)
for _ in range(2):
    jax.block_until_ready(fit(probe.init(keys[0], dim), task, keys))
"""


def test_several_draws_of_many_classes_end():
    """In a process of its own: where it does not end, no exception would."""
    subprocess.run([sys.executable, "-c", MANY_DRAWS], check=True, timeout=240)
