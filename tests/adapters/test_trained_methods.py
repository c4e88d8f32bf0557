"""What is particular to the methods that train on the shots of a task."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from uneven_tasks import uneven_task

from fsclip_jax.adapters.catalog import get_adapter
from fsclip_jax.adapters.clap import class_multipliers
from fsclip_jax.adapters.descent import (
    Recipe,
    adam,
    affordable_epochs,
    cross_entropy,
    descend,
    draw_epoch,
    steps_of_an_epoch,
    support_rows,
)
from fsclip_jax.adapters.linear_probe import long_text
from fsclip_jax.adapters.lp_plus_plus import largest_eigenvalue
from fsclip_jax.adapters.search import grid_settings
from fsclip_jax.adapters.tip_search import TipGrid, search_tip

KEY = jax.random.key(3)


@pytest.mark.parametrize(("rows", "batch"), [(1, 4), (4, 4), (5, 4), (9, 4), (257, 256)])
def test_an_epoch_sees_each_image_once(rows, batch):
    index, view, real = (np.asarray(x) for x in draw_epoch(KEY, rows, 3, batch))
    assert index.shape == (steps_of_an_epoch(rows, batch), index.shape[1])
    assert index.shape[1] <= batch
    assert sorted(index[real]) == list(range(rows))
    # As even as possible: no step is nearly empty.
    assert real.sum(1).min() >= index.shape[1] - len(index) + 1
    assert set(view) <= {0, 1, 2}


def test_epochs_differ_and_every_view_is_seen():
    drawn = [draw_epoch(key, 20, 4, 5) for key in jax.random.split(KEY, 12)]
    assert {int(v) for _, view, _ in drawn for v in view} == {0, 1, 2, 3}
    assert len({tuple(np.asarray(index[0])) for index, _, _ in drawn}) == 12


def test_few_images_are_seen_in_their_own_order():
    index, _, real = draw_epoch(KEY, 20, 1, 256)
    assert bool(real.all())
    assert index.tolist() == [list(range(20))]


def test_masked_rows_and_views_count_nowhere():
    task, _ = uneven_task(views=2)
    noise = jax.random.normal(KEY, task.views.shape)
    spoilt = task._replace(views=jnp.where(task.support_mask[..., None, None], task.views, noise))

    def train(task):
        def loss(weights, batch):
            return cross_entropy(20 * batch.features @ weights.T, batch)

        recipe = Recipe(adam(), epochs=4, batch=10)
        return descend(loss, task.text, support_rows(task), KEY, jnp.float32(0.01), recipe).params

    np.testing.assert_array_equal(train(task), train(spoilt))


def test_logits_are_capped_but_an_epoch_is_whole():
    rows = support_rows(uneven_task()[0])  # 28 rows of 7 classes: 196 logits an epoch
    assert affordable_epochs(rows, 7, 100, 20 * 196 + 195) == 20
    assert affordable_epochs(rows, 7, 5, 20 * 196) == 5
    assert affordable_epochs(rows, 7, 5, 1) == 1


def test_keeping_all_epochs_changes_nothing_and_ends_alike():
    task, query = uneven_task()
    last, every = (get_adapter("tip_adapter_f", epochs=4, every_epoch=k) for k in (False, True))
    params = every.init(KEY, task.text.shape[1])
    state = every.fit(params, task, KEY)
    expected = last.fit(params, task, KEY)
    assert state["cache_keys"].shape == (4, *expected["cache_keys"].shape)
    np.testing.assert_allclose(
        every.logits(state, query.features), last.logits(expected, query.features), rtol=1e-6
    )
    first = every.logits({**state, "epoch": jnp.float32(0)}, query.features)
    short = get_adapter("tip_adapter_f", epochs=4).train(params, task, KEY).params
    assert float(jnp.abs(first - last.logits(expected, query.features)).max()) > 1e-3
    np.testing.assert_allclose(state["cache_keys"][-1], short, rtol=1e-6)


@pytest.mark.parametrize("every_epoch", [False, True])
def test_the_search_counts_what_the_logits_say(every_epoch):
    task, query = uneven_task(query=60, logit_scale=10.0)
    adapter = get_adapter("tip_adapter_f", epochs=3, every_epoch=every_epoch)
    # So large a rate that the keys leave the unit sphere far behind.
    params = adapter.init(KEY, task.text.shape[1]) | {"rate": jnp.float32(0.3)}
    state = adapter.fit(params, task, KEY)
    lengths = jnp.linalg.norm(state["cache_keys"], axis=-1)[..., task.support_mask]
    assert float(lengths.max()) > 2
    grid = grid_settings(adapter)
    counts = np.asarray(adapter.count_right(params, task, query, KEY))
    assert counts.shape == grid["beta"].shape == ((24000,) if every_epoch else (8000,))
    assert np.ptp(counts) > 5

    some = np.arange(0, len(counts), 61)
    values = {name: jnp.asarray(column[some]) for name, column in grid.items()}

    def right(values):
        best = adapter.logits({**state, **values}, query.features).argmax(-1)
        return jnp.sum((best == query.labels) & query.mask)

    # exp of a large beta times a distance below zero is beyond float32: there is no truth there.
    expected = np.asarray(jax.vmap(right)(values))
    tame = np.asarray(values["beta"]) * float(lengths.max() - 1) < 80
    assert tame.sum() > 30
    assert np.abs(counts[some] - expected)[tame].max() <= 1


def test_distances_beyond_those_of_unit_vectors_need_the_reach():
    task, query = uneven_task(query=60, logit_scale=5.0)
    task = task._replace(support=3 * task.support * jnp.linspace(-1, 1, 4)[None, :, None])
    grid = TipGrid(2.0, 3.0, 40, 10)
    adapter = get_adapter("tip_adapter")

    def right(beta, alpha):
        params = {"beta": beta, "alpha": alpha}
        best = adapter.logits(adapter.fit(params, task, KEY), query.features).argmax(-1)
        return jnp.sum(best == query.labels)

    over = jax.vmap(jax.vmap(right, in_axes=(None, 0)), in_axes=(0, None))
    expected = over(*(jnp.asarray(x, jnp.float32) for x in (grid.betas, grid.alphas)))
    assert np.abs(np.asarray(search_tip(task, query, grid, 8.0)) - expected).max() <= 1
    assert np.abs(np.asarray(search_tip(task, query, grid)) - expected).max() > 1


def test_class_multipliers_are_mean_zero_shot_probabilities():
    task, _ = uneven_task(views=3)
    found = np.asarray(class_multipliers(task, support_rows(task)))
    views, mask = np.asarray(task.views, np.float64), np.asarray(task.support_mask)
    logits = float(task.logit_scale) * views @ np.asarray(task.text, np.float64).T
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    for index, kept in enumerate(mask):
        expected = p[index, kept][..., index].mean() if kept.any() else 1.0
        np.testing.assert_allclose(found[index], expected, rtol=1e-4)


def test_the_constraint_holds_the_probe_near_the_text():
    task, _ = uneven_task()
    moved = {}
    for name in ("clap", "linear_probe"):
        adapter = get_adapter(name, epochs=60)
        params = adapter.init(KEY, task.text.shape[1])
        weights = adapter.fit(params, task, KEY)["weights"]
        moved[name] = 1 - jnp.sum(weights * task.text, axis=-1)
    assert float(moved["clap"].mean()) < 0.8 * float(moved["linear_probe"].mean())


def test_texts_as_shots_are_learned_with_their_classes():
    task, _ = uneven_task()
    nll = {}
    for flag in (False, True):
        adapter = get_adapter("linear_probe", epochs=100, text_as_shot=flag)
        state = adapter.fit(adapter.init(KEY, task.text.shape[1]), task, KEY)
        log = jax.nn.log_softmax(adapter.logits(state, task.text))
        nll[flag] = float(-jnp.diagonal(log).sum())
    assert nll[True] < 0.1 * nll[False]


def test_names_are_half_of_what_a_cross_modal_probe_learns_from():
    """However many shots there are: the texts are still told apart, which images alone forget."""
    task, _ = uneven_task(shot=8)
    adapter = get_adapter("cross_modal", epochs=100)
    state = adapter.fit({"rate": jnp.float32(0.15)}, task, KEY)
    log = jax.nn.log_softmax(adapter.logits(state, task.text))
    assert float(-jnp.diagonal(log).mean()) < 0.1
    # The first loss is the mean of both, from the zero-shot weights.
    first = adapter.train({"rate": jnp.float32(0)}, task, KEY).losses[0]
    shots, labels = task.support[task.support_mask], np.nonzero(np.asarray(task.support_mask))[0]
    halves = [
        -jax.nn.log_softmax(50.0 * rows @ task.text.T)[np.arange(len(own)), own].mean()
        for rows, own in ((shots, labels), (task.text, np.arange(7)))
    ]
    np.testing.assert_allclose(first, np.mean(halves), rtol=1e-5)


def test_a_cross_modal_probe_without_images_is_zero_shot():
    task, _ = uneven_task()
    task = task._replace(support_mask=jnp.zeros_like(task.support_mask))
    weights = get_adapter("cross_modal", epochs=20).fit({"rate": jnp.float32(0.1)}, task, KEY)
    np.testing.assert_array_equal(weights["weights"], task.text)


def prolip_logits(task, query, epochs=30, **params):
    adapter = get_adapter("prolip", epochs=epochs)
    params = adapter.init(KEY, 24) | {name: jnp.float32(x) for name, x in params.items()}
    return np.asarray(adapter.logits(adapter.fit(params, task, KEY), query.features))


def test_prolip_is_zero_shot_without_steps_and_where_it_is_held_fast():
    task, query = uneven_task(before=40)
    kernel, bias = task.projection
    unit = np.asarray(query.features @ kernel + bias[None])
    unit = unit / np.linalg.norm(unit, axis=-1, keepdims=True)
    zero_shot = 50.0 * unit @ np.asarray(task.text).T
    np.testing.assert_allclose(prolip_logits(task, query, rate=0), zero_shot, atol=1e-3)
    # Adam's steps have a size of their own: what holds grows, and the steps stay small beside it.
    held = prolip_logits(task, query, rate=1e-4, strength=1e6)
    free = prolip_logits(task, query, rate=1e-2, strength=0)
    assert np.abs(held - zero_shot).max() < 0.1 < 5 < np.abs(free - zero_shot).max()


def test_prolip_is_held_by_one_over_the_shots_that_there_are():
    task, _ = uneven_task(before=40, shot=4)
    mask = jnp.arange(4)[None] < jnp.array([0, 1, 3, 2, 2, 4, 0])[:, None]
    task = task._replace(support_mask=mask)  # 12 shots of 5 classes: 2.4
    start = task.projection.kernel
    first = {}
    for squared in (False, True):
        adapter = get_adapter("prolip", epochs=2, squared=squared)
        params = {"rate": jnp.float32(0.01), "strength": jnp.float32(1)}
        one = get_adapter("prolip", epochs=1, squared=squared)
        moved = jnp.sum(jnp.square(one.train(params, task, KEY).params - start))
        losses = adapter.train(params, task, KEY).losses
        free = adapter.train(params | {"strength": jnp.float32(0)}, task, KEY).losses
        # After a step that is the same for both, the second losses differ by the penalty alone.
        first[squared] = float((losses[1] - free[1]) / moved)
    np.testing.assert_allclose(first[False], 1 / 2.4, rtol=0.01)
    np.testing.assert_allclose(first[True], 1 / 2.4**2, rtol=0.01)


def test_largest_eigenvalue():
    features = np.asarray(uneven_task()[0].support).reshape(-1, 24)
    gram = features.T @ features
    np.testing.assert_allclose(
        largest_eigenvalue(jnp.asarray(gram)), np.linalg.eigvalsh(gram)[-1], rtol=1e-5
    )
    assert float(largest_eigenvalue(jnp.zeros((3, 3)))) == 0.0


def test_lp_plus_plus_descends_at_its_own_step_sizes():
    task, _ = uneven_task(way=12, seed=3)
    adapter = get_adapter("lp_plus_plus", iterations=200, momentum=0.0)
    probe, losses, _ = adapter.train({}, task, KEY)
    assert bool(jnp.all(losses[1:] <= losses[:-1] + 1e-5))
    assert float(losses[-1]) < 0.5 * float(losses[0])
    # The weights of the text moved, each by itself.
    assert float(jnp.std(probe.blend)) > 1e-3


def test_lp_plus_plus_takes_fewer_steps_over_many_shots():
    task, _ = uneven_task()  # 28 slots
    every = get_adapter("lp_plus_plus", iterations=9).train({}, task, KEY).losses
    capped = get_adapter("lp_plus_plus", iterations=9, most_logits=5 * 28 * 7 + 3)
    few = capped.train({}, task, KEY).losses
    assert len(every) == 9
    np.testing.assert_array_equal(few, every[:5])


def test_lp_plus_plus_ignores_masked_rows():
    task, _ = uneven_task()
    adapter = get_adapter("lp_plus_plus", iterations=5)
    spoilt = task._replace(support=jnp.where(task.support_mask[..., None], task.support, 9.0))
    np.testing.assert_array_equal(
        adapter.train({}, task, KEY).losses, adapter.train({}, spoilt, KEY).losses
    )


@pytest.mark.parametrize(
    "name",
    ["tip_adapter_f", "clip_adapter", "taskres", "linear_probe", "cross_modal", "lp_plus_plus",
     "clap"],
)  # fmt: skip
def test_training_answers_the_shots(name):
    """On its own support every method does better than the text alone."""
    task, _ = uneven_task(way=10, seed=4)
    adapter, zero_shot = get_adapter(name), get_adapter("zero_shot")
    shots = task.support[task.support_mask]
    labels = jnp.broadcast_to(jnp.arange(10)[:, None], task.support_mask.shape)[task.support_mask]

    def accuracy(adapter):
        params = adapter.init(KEY, task.text.shape[1])
        logits = adapter.logits(adapter.fit(params, task, KEY), shots)
        return float((logits.argmax(-1) == labels).mean())

    assert accuracy(adapter) > accuracy(zero_shot) + 0.05


@pytest.mark.parametrize(("longest", "own"), [(12.0, True), (13.0, False), (None, False)])
def test_training_starts_at_the_length_of_the_text_unless_it_is_far_too_long(longest, own):
    task, _ = uneven_task(logit_scale=50.0)
    lengths = None if longest is None else jnp.full(7, longest).at[0].add(0.5)
    start = long_text(task._replace(text_lengths=lengths))
    expected = lengths if own else jnp.full(7, 2.5)
    np.testing.assert_allclose(np.linalg.norm(start, axis=-1), expected, rtol=1e-5)
