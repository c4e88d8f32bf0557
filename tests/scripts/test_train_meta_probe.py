"""Learning the numbers of Meta-Probe: what the tasks are made of, and that they are learned."""

import itertools

import jax
import numpy as np
import pytest
from imagenet_groups import GROUPS
from task_episodes import Episodes, Pool, alter, draw, reduce_width
from train_meta_probe import PROBE, learn, loss_of, start


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    text = rng.standard_normal((12, 40)).astype(np.float32)
    features = np.repeat(text, 7, axis=0) + rng.standard_normal((84, 40)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    rows = [[np.array([row]) for row in range(7 * each, 7 * each + 7)] for each in range(12)]
    return Pool(features, text, rows, [np.arange(6), np.arange(6, 12)], text @ text.T, 20.0)


def test_no_class_is_in_two_parts_or_groups():
    groups = [group for part in GROUPS.values() for group in part.values()]
    for one, other in itertools.combinations(groups, 2):
        assert not np.intersect1d(one, other).size
    assert sum(map(len, groups)) == 1000


def test_a_picture_is_a_shot_or_asked_and_never_both(pool):
    tasks = draw(np.random.default_rng(1), pool, way=5, count=8)
    assert tasks.query.shape == (8, 10, 40)
    shots = tasks.support.reshape(8, -1, 40)
    cosines = np.einsum("csd,cqd->csq", shots, tasks.query)
    assert cosines.max() < 0.999
    assert not tasks.support[~tasks.mask].any()


def test_fewer_axes_change_no_loss(pool):
    tasks = draw(np.random.default_rng(2), pool, way=3, count=2)
    params = PROBE.init(jax.random.key(0), 40)
    losses = [loss_of(params, each, np.float32(40)) for each in (tasks, reduce_width(tasks))]
    assert reduce_width(tasks).text.shape == (2, 3, 18)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_altered_tasks_stay_tasks(pool):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        tasks = alter(rng, draw(rng, pool, way=4, count=2))
        assert isinstance(tasks, Episodes)
        assert not tasks.support[~tasks.mask].any()
        np.testing.assert_allclose(np.linalg.norm(tasks.query, axis=-1), 1.0, rtol=1e-5)


def test_learning_lowers_the_loss(pool, monkeypatch):
    monkeypatch.setattr("train_meta_probe.SIZES", ((4, 4),))
    monkeypatch.setattr("train_meta_probe.ALTERED", 0.0)
    learned = learn((pool, pool), seed=0, steps=12)
    tasks = draw(np.random.default_rng(3), pool, way=4, count=16)
    started = start()
    assert loss_of(learned, tasks, np.float32(40)) < loss_of(started, tasks, np.float32(40))
    assert float(learned["strength"]) == 1.0
