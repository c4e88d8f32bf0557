import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.fitting.draws import draws_of as leading_draws
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.fitting.fitted import choose_setting, fit, logits_of
from fsclip_jax.fitting.methods import Method
from fsclip_jax.fitting.selection import hold_out
from fsclip_jax.prediction.held_out import fit_held_out, folds_of
from fsclip_jax.prediction.shots import as_families, find_twins


def draws_of(task):
    return leading_draws(jax.tree.map(lambda leaf: leaf[None], task))


def held_out(name, draws, **settings):
    adapter = get_adapter(name)
    method = Method(name, adapter, adapter.init(jax.random.key(0), draws.task.text.shape[-1]))
    engine = Engine()
    choice = choose_setting(engine, method, draws, "shots")
    return (
        method,
        choice,
        *fit_held_out(engine, method, choice, draws, folds_of(draws), **settings),
    )


def test_every_shot_is_held_out_once_and_never_seen():
    task, _ = example_task(way=3, shot=6)
    task = task._replace(support_mask=task.support_mask.at[0, 4:].set(False))
    *_, held = held_out("prototype", draws_of(task))
    assert sorted(held.slots.tolist()) == [0, 1, 2, 3, *range(6, 18)]
    np.testing.assert_array_equal(held.labels, held.slots // 6)
    # Shots that are all alike within a class, but for one: the odd one is not in its own mean.
    odd = jnp.broadcast_to(task.support[:, :1], task.support.shape)
    odd = odd.at[1, 0].set(-task.support[1, 0])
    draws = draws_of(task._replace(support=odd))
    *_, held = held_out("prototype", draws)
    own = held.logits[np.arange(len(held.labels)), held.labels]
    assert own[held.labels == 1].min() < 0 < own[held.labels == 2].min()
    assert held.same[held.slots == 6] == pytest.approx(-1, abs=1e-5)


@pytest.mark.parametrize("name", ["linear_probe", "text_prototype", "gda"])
def test_masked_folds_answer_as_folds_that_are_cut_away(name):
    task, _ = example_task(way=4, shot=5)
    draws = draws_of(task)
    method, choice, fitted, held = held_out(name, draws)
    engine = Engine()
    whole = fit(engine, method, choice, draws.task)
    features = np.asarray(task.support.reshape(-1, 8))
    np.testing.assert_allclose(
        logits_of(fitted, features, 32), logits_of(whole, features, 32), rtol=1e-4, atol=1e-3
    )
    for fold in range(4):
        rest, query = hold_out(draws, np.arange(5) % 4 == fold)
        (expected,) = logits_of(
            fit(engine, method, choice, rest), np.asarray(query.features[0]), 32
        )
        ours = held.slots % 5 % 4 == fold
        np.testing.assert_allclose(held.logits[ours], expected, rtol=1e-4, atol=1e-3)


def test_the_closest_pictures_are_those_that_stayed():
    task, _ = example_task(way=3, shot=2)
    *_, held = held_out("prototype", draws_of(task))
    support = np.asarray(task.support)
    for place, (slot, label) in enumerate(zip(held.slots, held.labels, strict=True)):
        shot = slot % 2
        assert held.same[place] == pytest.approx(support[label, shot] @ support[label, 1 - shot])
        others = [support[c, 1 - shot] @ support[label, shot] for c in range(3) if c != label]
        assert held.other[place] == pytest.approx(max(others), rel=1e-5)


def test_a_single_shot_leaves_none_and_a_lone_class_is_not_asked():
    task, _ = example_task(way=3, shot=1)
    *_, held = held_out("linear_probe", draws_of(task))
    assert held.logits.shape == (0, 3)
    assert held.right.shape == (0,)
    task, _ = example_task(way=3, shot=4)
    task = task._replace(support_mask=task.support_mask.at[1, 1:].set(False))
    *_, held = held_out("linear_probe", draws_of(task))
    assert np.bincount(held.labels, minlength=3).tolist() == [4, 0, 4]


def test_a_picture_that_stands_twice_is_not_asked_with_its_copy_in_the_support():
    task, _ = example_task(way=3, shot=4)
    support = task.support.at[0, 3].set(task.support[0, 1]).at[2, 0].set(task.support[1, 2])
    draws = draws_of(task._replace(support=support))
    twins = find_twins(np.asarray(support), np.ones((3, 4), bool))
    assert [(one.first, one.second) for one in twins] == [(1, 3), (6, 8)]
    assert all(one.cosine == pytest.approx(1) for one in twins)
    *_, alone = held_out("prototype", draws)
    *_, together = held_out("prototype", as_families(draws, twins))
    copies = np.isin(alone.slots, (1, 3))
    assert alone.same[copies].min() > 0.999
    assert together.same[np.isin(together.slots, (1, 3))].max() < 0.98


def test_where_the_text_is_made_of_the_pictures_it_does_not_see_the_held_out_ones():
    task, _ = example_task(way=3, shot=3)
    mean = task.support.sum(1) / jnp.linalg.norm(task.support.sum(1), axis=-1, keepdims=True)
    draws = draws_of(task._replace(text=mean))
    _, _, fitted, held = held_out("zero_shot", draws, own_text=False)
    np.testing.assert_allclose(fitted.state["weights"][0], mean, rtol=1e-5)
    first = np.flatnonzero(held.slots == 0)[0]
    rest = np.asarray(task.support)[:, 1:].sum(1)
    rest /= np.linalg.norm(rest, axis=-1, keepdims=True)
    expected = 100 * rest @ np.asarray(task.support)[0, 0]
    np.testing.assert_allclose(held.logits[first], expected, rtol=1e-4)
