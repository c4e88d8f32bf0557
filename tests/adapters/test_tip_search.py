"""Tip-Adapter and the search of its grid against the published loop in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import published_forms as forms
import pytest
from compiles import compiled

from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.adapters.tip_search import TipGrid, interpolation, search_tip
from fsclip_jax.episodes.task import Query, Task

SMALL = TipGrid(beta_steps=40, alpha_steps=10)


def hard_task(way=7, shot=4, query=90, dim=12, seed=0, uneven=False):
    """Features so noisy that the right setting matters."""
    task, queries = example_task(way, shot, query, dim, seed)
    rng = np.random.default_rng(seed + 100)

    def blur(x, scale):
        return jnp.asarray(forms.unit(x + scale * rng.standard_normal(x.shape)))

    mask = np.ones((way, shot), bool)
    if uneven:
        mask = rng.random((way, shot)) < 0.6
        mask[0] = False
    task = task._replace(
        support=blur(task.support, 0.25),
        text=blur(task.text, 0.3),
        logit_scale=jnp.float32(10.0),
        support_mask=jnp.asarray(mask),
    )
    return task, queries._replace(features=blur(queries.features, 0.2))


def loop(task, query, grid):
    return forms.tip_loop(
        *(np.asarray(x) for x in (query.features, query.labels, task.text)),
        *(np.asarray(x) for x in (task.support, task.support_mask, task.logit_scale)),
        grid.betas,
        grid.alphas,
    )


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 5.5), (0.0, 1.0), (3.7, 0.2)])
def test_logits_equal_numpy(alpha, beta):
    task, query = hard_task(uneven=True)
    adapter = get_adapter("tip_adapter")
    params = {"alpha": jnp.float32(alpha), "beta": jnp.float32(beta)}
    logits = adapter.logits(adapter.fit(params, task, jax.random.key(0)), query.features)
    expected = forms.tip_logits(
        query.features, task.text, task.support, task.support_mask, 10.0, alpha, beta
    )
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("sizes", "grid"),
    [
        ({}, SMALL),
        ({"uneven": True, "seed": 1}, SMALL),
        ({"way": 2, "shot": 1, "seed": 2}, SMALL),
        ({"way": 1, "query": 9}, SMALL),
        ({"way": 30, "shot": 2, "query": 301, "seed": 4}, SMALL),
        ({"seed": 5}, TipGrid(50.0, 50.0, 40, 10)),
        ({"seed": 6}, TipGrid(7.0, 3.0, 3, 2)),
        ({"seed": 7}, TipGrid()),
    ],
    ids=str,
)
def test_counts_and_best_setting_equal_the_loop(sizes, grid):
    task, query = hard_task(**sizes)
    correct = np.asarray(search_tip(task, query, grid))
    expected, setting = loop(task, query, grid)
    # A query within rounding of a tie may fall on either side, in a cell of thousands.
    assert np.abs(correct - expected).max() <= 1
    assert (correct != expected).mean() <= 1e-3
    # The first of the best, as the loop keeps it: the smallest beta, then the smallest alpha.
    beta, alpha = np.unravel_index(correct.argmax(), correct.shape)
    assert (grid.alphas[alpha], grid.betas[beta]) == setting
    if task.text.shape[0] > 1:
        assert expected.max() > expected.min()


def test_masked_queries_do_not_count():
    task, query = hard_task()
    kept = query.mask.at[40:].set(False)
    shorter = Query(query.features[:40], query.labels[:40], query.mask[:40])
    np.testing.assert_array_equal(
        search_tip(task, query._replace(mask=kept), SMALL), search_tip(task, shorter, SMALL)
    )


def test_without_shots_every_setting_is_zero_shot():
    task, query = hard_task()
    task = task._replace(support_mask=jnp.zeros_like(task.support_mask))
    right = int((jnp.argmax(query.features @ task.text.T, axis=1) == query.labels).sum())
    np.testing.assert_array_equal(search_tip(task, query, SMALL), np.full((40, 10), right))


def test_of_two_equal_classes_the_first_is_predicted():
    text = jnp.eye(3)[jnp.array([0, 0, 1])]
    task = Task(text[:, None], jnp.ones((3, 1), bool), text, jnp.float32(10.0))
    features, labels = jnp.eye(3)[jnp.array([0, 0, 1])], jnp.array([0, 1, 2])
    for label, right in ((0, 1), (1, 0), (2, 0)):
        query = Query(features[:1], labels[label : label + 1], jnp.ones(1, bool))
        np.testing.assert_array_equal(search_tip(task, query, SMALL), np.full((40, 10), right))


def test_equal_text_is_told_apart_by_the_shots():
    text = jnp.eye(3)[jnp.array([0, 0])]
    support = jnp.eye(3)[jnp.array([[1], [0]])]
    task = Task(support, jnp.ones((2, 1), bool), text, jnp.float32(10.0))
    query = Query(jnp.eye(3)[:1], jnp.array([1]), jnp.ones(1, bool))
    np.testing.assert_array_equal(search_tip(task, query, SMALL), np.ones((40, 10)))


def test_the_grid_is_the_published_one():
    grid = TipGrid()
    np.testing.assert_allclose(grid.betas, [0.1 + i * (7 - 0.1) / 200 for i in range(200)])
    np.testing.assert_allclose(grid.alphas, [0.1 + i * (3 - 0.1) / 20 for i in range(20)])


@pytest.mark.parametrize("scale", [1.0, 7.0, 13.0, 50.0])
def test_the_interpolation_is_as_good_as_float32(scale):
    grid = TipGrid(beta_scale=scale)
    nodes, matrix = interpolation(grid)
    assert len(nodes) < 50
    distance = np.linspace(0, 2, 997)
    error = matrix @ np.exp(-nodes[:, None] * distance) - np.exp(-grid.betas[:, None] * distance)
    assert np.abs(error).max() < 2e-8


def test_new_values_do_not_compile_again():
    search_tip(*hard_task(seed=0), SMALL)
    task, queries = hard_task(seed=1)
    before = compiled()
    search_tip(task, queries, SMALL)
    assert compiled() == before


def test_memory_does_not_grow_with_the_queries():
    def temporary(count):
        task, query = hard_task(way=20, query=count, dim=4)
        compiled = search_tip.lower(task, query, SMALL).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many = temporary(1024), temporary(8192)
    per_query_table = 4 * 20 * 40  # one float at every class and beta
    assert many - few < 7168 * per_query_table / 10


def test_seeds_can_be_searched_together():
    tasks = [hard_task(seed=seed) for seed in range(2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tasks)
    together = jax.vmap(lambda task, query: search_tip(task, query, SMALL))(*stacked)
    for index, task in enumerate(tasks):
        np.testing.assert_array_equal(together[index], search_tip(*task, SMALL))
