import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsclip_jax.adapters.catalog import get_adapter
from fsclip_jax.errors import UserError
from fsclip_jax.training.tasks import (
    choose_classes,
    make_sampler,
    training_episodes,
)
from fsclip_jax.training.validation import make_validate, validation_episodes


@pytest.mark.parametrize("classes", ["base", "all"])
def test_held_out_classes_are_never_trained_on(classes):
    train, val = choose_classes(21, classes)
    assert not set(train.tolist()) & set(val.tolist())
    assert max(*train, *val) == (10 if classes == "base" else 20)
    assert len(val) == (2 if classes == "base" else 4)


def test_training_reads_train_images_of_its_classes_only(stored, recipe):
    ids = choose_classes(20, "all")[0]
    source, plan = training_episodes(stored, recipe, ids)
    rows = np.flatnonzero((stored.splits == 0) & np.isin(stored.labels, ids))
    np.testing.assert_allclose(source.bank.features[0], stored.features[0, rows], rtol=1e-6)
    assert plan.spec.way == recipe.way
    assert plan.max_size == 6


def test_sizes_that_the_data_cannot_give_are_lowered(stored, recipe):
    wish = dataclasses.replace(recipe, way=500, shot=16, min_shot=1)
    _, plan = training_episodes(stored, wish, choose_classes(20, "all")[0])
    assert (plan.spec.way, plan.spec.shot, plan.spec.min_shot) == (16, 5, 1)


def test_a_class_with_too_few_images_is_named(stored, recipe):
    wish = dataclasses.replace(recipe, shot=6, min_shot=6)
    with pytest.raises(UserError, match=r"fewer than 6 \+ 1 images.*'thing 0'"):
        training_episodes(stored, wish, choose_classes(20, "all")[0])


def test_validation_asks_for_val_images_with_train_images_as_shots(stored, recipe):
    _, ids = choose_classes(20, "all")
    recipe = dataclasses.replace(recipe, val_episodes=32)
    support, query, episodes = validation_episodes(stored, recipe, ids)
    assert support.mean.shape == (4 * 6, stored.dim)
    assert query.mean.shape == (4 * 3, stored.dim)
    assert episodes.classes.shape == (recipe.val_episodes, 4)
    shots = episodes.support_mask.sum(-1)
    assert set(np.asarray(shots).ravel().tolist()) == {1, 2, 3}
    wanted = np.asarray(query.bank.labels)[episodes.query]
    labels = np.broadcast_to(np.asarray(episodes.classes)[..., None], wanted.shape)
    np.testing.assert_array_equal(wanted[episodes.query_mask], labels[episodes.query_mask])


def test_validation_falls_back_to_train_images_apart_from_the_shots(make_bank, recipe):
    train_only = make_bank(split=("train",) * 180)
    _, query, episodes = validation_episodes(train_only, recipe, choose_classes(20, "all")[1])
    assert query.mean.shape == (4 * 9, 16)
    for support, mask, asked, kept in zip(
        episodes.support,
        episodes.support_mask,
        episodes.query,
        episodes.query_mask,
        strict=True,
    ):
        assert not set(np.asarray(support)[mask].tolist()) & set(np.asarray(asked)[kept].tolist())


def test_validation_is_the_same_for_every_seed(stored, recipe):
    _, ids = choose_classes(20, "all")
    one = validation_episodes(stored, recipe, ids)
    two = validation_episodes(stored, dataclasses.replace(recipe, seed=5), ids)
    np.testing.assert_array_equal(one.episodes.query, two.episodes.query)
    np.testing.assert_array_equal(one.episodes.support, two.episodes.support)


def test_nothing_is_validated_where_nothing_is_held_out(stored, recipe):
    assert validation_episodes(stored, recipe, np.array([], np.int32)) is None


def test_validation_accuracy_counts_the_queries_present(stored, recipe):
    validation = validation_episodes(stored, recipe, choose_classes(20, "all")[1])
    adapter = get_adapter("zero_shot")
    support, query, episodes = validation
    right = count = 0
    for i in range(recipe.val_episodes):
        text = np.asarray(support.bank.text)[episodes.classes[i]]
        asked = np.asarray(query.bank.features[0])[episodes.query[i]]
        guess = (asked @ text.T).argmax(-1)
        mask = np.asarray(episodes.query_mask[i])
        right += ((guess == np.arange(len(text))[:, None]) & mask).sum()
        count += mask.sum()
    for validate in (make_validate(adapter), make_validate(adapter, most=8 * 9)):
        np.testing.assert_allclose(validate({}, validation), 100 * right / count)


def test_shots_are_means_over_views_and_queries_are_single_views(make_bank, recipe):
    stored = make_bank(views=4)
    source, plan = training_episodes(stored, recipe, choose_classes(20, "all")[0])
    task, query = make_sampler(plan, 8)(jax.random.key(0), source)
    means = np.asarray(source.mean)
    views = np.asarray(source.bank.features).reshape(-1, stored.dim)

    def distance(rows, among):
        return np.abs(rows[:, None] - among[None]).max(-1).min(-1)

    shots = np.asarray(task.support)[np.asarray(task.support_mask)]
    asked = np.asarray(query.features)[np.asarray(query.mask)]
    assert distance(shots, means).max() < 1e-6
    assert distance(asked, views).max() < 1e-6
    chosen = np.abs(asked[:, None] - views[None]).max(-1).argmin(-1) // source.mean.shape[0]
    assert set(chosen.tolist()) == {0, 1, 2, 3}


def test_support_and_query_of_an_episode_share_no_family(make_bank, recipe):
    # Every image train, so that a class has all three families.
    stored = make_bank(families=True, split=("train",) * 180)
    source, plan = training_episodes(stored, recipe, choose_classes(20, "all")[0])
    assert plan.families
    task, query = make_sampler(plan, 8)(jax.random.key(0), source)
    domains = np.asarray(source.bank.domains)

    def families(rows):
        return domains[np.abs(rows[:, None] - np.asarray(source.mean)[None]).max(-1).argmin(-1)]

    for episode in range(8):
        for label in range(recipe.way):
            shots = np.asarray(task.support[episode, label])[task.support_mask[episode, label]]
            mine = np.asarray((query.labels[episode] == label) & query.mask[episode])
            asked = np.asarray(query.features[episode])[mine]
            assert len(shots)
            assert len(asked)
            assert not set(families(shots)) & set(families(asked))


def test_a_bank_without_families_draws_the_same_with_and_without_the_shortcut(stored, recipe):
    source, plan = training_episodes(stored, recipe, choose_classes(20, "all")[0])
    short = make_sampler(plan, 4)(jax.random.key(1), source)
    full = make_sampler(plan._replace(families=True), 4)(jax.random.key(1), source)
    for a, b in zip(jax.tree.leaves(short), jax.tree.leaves(full), strict=True):
        assert jnp.array_equal(a, b)
