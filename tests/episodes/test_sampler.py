"""Properties of single episodes: disjoint, without replacement, as full as can be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from episode_banks import assert_follows_the_rules, make_bank
from hypothesis import given, settings
from hypothesis import strategies as st

from fsclip_jax.episodes.sampler import (
    EpisodeSpec,
    sample_across,
    sample_batch,
    sample_episode,
    sample_query,
    sample_support,
    usable_classes,
)
from fsclip_jax.errors import UserError

CLASSES, IMAGES = 8, 60
SPECS = [EpisodeSpec(3, 2, 3), EpisodeSpec(4, 5, 2, min_shot=1)]


@st.composite
def banks(draw):
    """Banks of one shape, so that nothing is compiled anew: the last class takes the rest."""
    sizes = draw(st.lists(st.integers(0, 6), min_size=CLASSES - 1, max_size=CLASSES - 1))
    # Four classes can be drawn whatever else is there.
    sizes = [max(size, 2) if i < 3 else size for i, size in enumerate(sizes)]
    rest = IMAGES - sum(sizes)
    sizes = np.array([*sizes, rest])
    lowest = draw(st.sampled_from([-1, 0]))
    domains = draw(st.lists(st.integers(lowest, 3), min_size=IMAGES, max_size=IMAGES))
    domains = None if draw(st.booleans()) else np.array(domains)
    if domains is not None:
        starts = np.cumsum(sizes) - sizes
        for first in [*starts[:3], starts[-1]]:
            domains[first : first + 2] = (0, 1)
    return make_bank(sizes, domains)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@settings(max_examples=40, deadline=None)
@given(bank=banks(), seed=st.integers(0, 2**31 - 1))
def test_every_episode_follows_the_rules(spec, bank, seed):
    batch = sample_batch(jax.random.key(seed), bank, spec, IMAGES, 16)
    batch = jax.tree.map(np.asarray, batch)
    for i in range(16):
        assert_follows_the_rules(bank, spec, jax.tree.map(lambda leaf, i=i: leaf[i], batch))


def test_a_class_of_no_or_one_image_is_not_drawn_while_there_are_others():
    bank = make_bank([0, 1, 20, 22, 0, 16, 1, 0])
    batch = sample_batch(jax.random.key(0), bank, SPECS[0], IMAGES, 16)
    assert set(np.unique(batch.classes)) == {2, 3, 5}


def test_a_class_of_one_family_is_not_drawn_while_there_are_others():
    bank = make_bank([3, 3, 2], domains=[4, 4, 4, 4, 4, 1, -1, -1])
    assert usable_classes(bank).tolist() == [False, True, True]


def test_a_class_with_too_little_is_masked_when_nothing_else_is_left():
    bank = make_bank([1, 4, 0])
    episode = sample_episode(jax.random.key(0), bank, EpisodeSpec(3, 2, 2), 4)
    order = np.argsort(episode.classes)
    assert episode.support_mask[order].sum(1).tolist() == [1, 2, 0]
    assert episode.query_mask[order].sum(1).tolist() == [0, 2, 0]


def test_images_in_families_need_not_be_sorted_by_family(key):
    shuffled = make_bank([6] * 7 + [18], np.tile([0, 1, 2], 20))
    batch = jax.tree.map(np.asarray, sample_batch(key, shuffled, SPECS[0], IMAGES, 16))
    for i in range(16):
        episode = jax.tree.map(lambda leaf, i=i: leaf[i], batch)
        assert_follows_the_rules(shuffled, SPECS[0], episode)


def test_every_number_of_shots_in_the_range_occurs_and_is_a_truncation(key):
    bank, seen = make_bank([8] * 7 + [4]), set()
    fixed = EpisodeSpec(4, 5, 2)
    for i in range(4):
        varied, full = (
            jax.tree.map(
                np.asarray, sample_batch(jax.random.fold_in(key, i), bank, spec, IMAGES, 16)
            )
            for spec in (SPECS[1], fixed)
        )
        shots = varied.support_mask.sum(-1).max(-1)
        seen |= set(shots.tolist())
        kept = full.support_mask & (np.arange(5) < shots[:, None, None])
        np.testing.assert_array_equal(varied.support_mask, kept)
        np.testing.assert_array_equal(varied.support, np.where(kept, full.support, 0))
    assert seen == {1, 2, 3, 4, 5}


def test_the_same_key_gives_the_same_episodes_and_another_key_others(key):
    bank = make_bank([8] * 7 + [4])
    one, same, other = (
        sample_batch(k, bank, SPECS[0], IMAGES, 16) for k in (key, key, jax.random.fold_in(key, 1))
    )
    np.testing.assert_array_equal(one.support, same.support)
    assert (one.support != other.support).any()


def test_no_more_slots_than_the_largest_class_are_worked_on_but_all_are_returned(key):
    bank, spec = make_bank([3, 4]), EpisodeSpec(2, 50, 60)
    episode = sample_episode(key, bank, spec, 4)
    assert episode.support.shape == (2, 50)
    assert episode.query.shape == (2, 60)
    assert_follows_the_rules(bank, spec, episode)


def test_full_way_draws_are_of_the_right_class_without_replacement(key):
    bank = make_bank([5, 0, 2, 9])
    index, mask = sample_support(key, bank, jnp.arange(4), 4, 9)
    assert mask.sum(1).tolist() == [4, 0, 2, 4]
    labels = np.where(mask, np.asarray(bank.labels)[index], -1)
    np.testing.assert_array_equal(labels, np.where(mask, np.arange(4)[:, None], -1))
    assert all(len(set(row[m].tolist())) == m.sum() for row, m in zip(index, mask, strict=True))


def test_full_way_draws_are_nested_in_the_shots(key):
    bank = make_bank([5, 1, 2, 30])
    most, mask = sample_support(key, bank, jnp.arange(4), 16, 30)
    for shot in (1, 2, 4, 8):
        fewer, fewer_mask = sample_support(key, bank, jnp.arange(4), shot, 30)
        np.testing.assert_array_equal(fewer, most[:, :shot])
        np.testing.assert_array_equal(fewer_mask, mask[:, :shot])


def test_the_draw_of_a_class_does_not_depend_on_the_other_classes(key):
    bank = make_bank([12] * 6)
    every, _ = sample_support(key, bank, jnp.arange(6), 4, 12)
    some, _ = sample_support(key, bank, jnp.array([4, 1]), 4, 12)
    np.testing.assert_array_equal(some, every[jnp.array([4, 1])])


def test_query_draws_are_independent_of_the_support_of_the_same_key(key):
    bank = make_bank([40] * 4)
    support, _ = sample_support(key, bank, jnp.arange(4), 8, 40)
    query, mask = sample_query(key, bank, jnp.arange(4), 8, 40)
    assert mask.all()
    assert (support != query).mean() > 0.8


def test_episodes_across_two_banks_take_each_side_from_its_own(key):
    train, test = make_bank([3, 0, 6, 2, 5]), make_bank([1, 4, 2, 0, 9])
    spec = EpisodeSpec(3, 2, 4, min_shot=1)
    for i in range(8):
        episode = sample_across(jax.random.fold_in(key, i), train, test, spec, 9)
        assert set(episode.classes.tolist()) == {0, 2, 4}
        for bank, rows, mask in (
            (train, episode.support, episode.support_mask),
            (test, episode.query, episode.query_mask),
        ):
            given_labels = np.asarray(bank.labels)[rows]
            assert np.where(mask, given_labels == episode.classes[:, None], True).all()
            drawn = np.asarray(rows)[np.asarray(mask)]
            assert len(set(drawn.tolist())) == len(drawn)
        wanted = np.minimum(np.asarray(test.sizes)[episode.classes], 4)
        np.testing.assert_array_equal(episode.query_mask.sum(1), wanted)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"way": 0}, "way is 0; give at least 1"),
        ({"query": -3}, "query is -3; give at least 1"),
        ({"min_shot": 3}, "min_shot is 3; give 1 to 2"),
        ({"min_shot": 0}, "min_shot is 0; give 1 to 2"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(sizes, message):
    with pytest.raises(UserError, match=message):
        EpisodeSpec(**{"way": 2, "shot": 2, "query": 2, **sizes})
