"""The draws are uniform: chi-square tests with fixed keys, so that they pass or fail for good."""

from functools import partial
from math import factorial, prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from episode_banks import make_bank
from scipy.stats import chisquare

from fsclip_jax.episodes.draw import draw_classes, family_runs, partial_shuffle
from fsclip_jax.episodes.gather import gather_query
from fsclip_jax.episodes.sampler import EpisodeSpec, sample_batch, sample_support

DRAWS = 20_000
DOUBT = 1e-3


def p_value(*columns, sizes):
    """How well whole numbers (each column below its size) fit the uniform law, jointly."""
    cells = np.ravel_multi_index([np.asarray(c) for c in columns], sizes)
    return chisquare(np.bincount(cells, minlength=prod(sizes))).pvalue


def p_value_of_orders(orders, size):
    """How well ordered draws without replacement fit the uniform law over all of them."""
    _, counts = np.unique(np.asarray(orders), axis=0, return_counts=True)
    expected = factorial(size) // factorial(size - orders.shape[1])
    assert len(counts) == expected, "an order never occurs, or one occurs that cannot"
    return chisquare(counts).pvalue


@pytest.mark.parametrize(("size", "count"), [(4, 4), (5, 3), (6, 1)])
def test_every_order_of_a_partial_shuffle_is_equally_likely(key, size, count):
    bits = jax.random.bits(key, (count, DRAWS))
    orders = jax.jit(partial_shuffle)(bits, jnp.full(DRAWS, size))
    assert p_value_of_orders(orders, size) > DOUBT


def test_a_partial_shuffle_of_few_does_not_repeat_among_many(key):
    orders = jax.jit(partial_shuffle)(jax.random.bits(key, (64, 500)), jnp.full(500, 65))
    assert all(len(set(row)) == 64 for row in np.asarray(orders).tolist())
    assert orders.min() == 0
    assert orders.max() == 64


def test_every_ordered_choice_of_classes_is_equally_likely(key):
    usable = jnp.array([True, False, True, True, False, True, True])
    keys = jax.random.split(key, DRAWS)
    draw = jax.jit(jax.vmap(lambda k: draw_classes(jax.random.bits(k, (3,)), usable)))
    chosen = np.asarray(draw(keys))
    assert p_value_of_orders(np.searchsorted([0, 2, 3, 5, 6], chosen), 5) > DOUBT


def test_every_support_and_query_image_is_equally_likely(key):
    bank = make_bank([5, 7, 5])
    episodes = sample_batch(key, bank, EpisodeSpec(2, 2, 1, min_shot=1), 7, DRAWS)
    episodes = jax.tree.map(np.asarray, episodes)
    shots = episodes.support_mask[:, 0].sum(-1)
    assert p_value(shots - 1, sizes=(2,)) > DOUBT
    for wanted in (1, 2):
        of_class = (episodes.classes == 1) & (shots == wanted)[:, None]
        support, query = episodes.support[of_class] - 5, episodes.query[of_class] - 5
        orders = np.concatenate([support[:, :wanted], query], axis=1)
        assert p_value_of_orders(orders, 7) > DOUBT


def test_every_pair_of_families_is_equally_likely_and_so_are_their_images(key):
    domains = np.array([2, 0, 2, 1, 3, 2, 1])
    bank = make_bank([7, 2], [*domains, 0, 1])
    episodes = sample_batch(key, bank, EpisodeSpec(2, 2, 3), 7, DRAWS)
    of_class = episodes.classes == 0
    support, query = np.asarray(episodes.support)[of_class], np.asarray(episodes.query)[of_class]
    orders = np.stack([domains[support[:, 0]], domains[support[:, 1]], domains[query[:, 0]]], 1)
    assert p_value_of_orders(orders, 4) > DOUBT
    for slots in (support[:, 0], support[:, 1], query[:, 0]):
        chosen = slots[domains[slots] == 2]
        assert p_value(np.searchsorted([0, 2, 5], chosen), sizes=(3,)) > DOUBT


def test_images_beyond_one_a_family_are_equally_likely(key):
    # Families 0 (one image) and 1 (four): with family 2 as the query set, the fourth and fifth
    # draws are any two of the three images of family 1 that are left.
    bank = make_bank([6, 2], [0, 1, 1, 1, 1, 2, 0, 1])
    episodes = sample_batch(key, bank, EpisodeSpec(2, 4, 1), 6, DRAWS)
    of_class = (episodes.classes == 0) & (episodes.query[..., 0] == 5)
    support = np.asarray(episodes.support)[of_class]
    assert set(support[:, :2].min(axis=1)) == {0}
    family_one = np.where(support[:, :1] == 0, support[:, 1:], support[:, [0, 2, 3]]) - 1
    assert p_value_of_orders(family_one, 4) > DOUBT


def test_every_full_way_draw_is_equally_likely_and_classes_are_independent(key):
    bank = make_bank([4, 6])
    keys = jax.random.split(key, DRAWS)
    draw = jax.jit(jax.vmap(lambda k: sample_support(k, bank, jnp.arange(2), 3, 6)[0]))
    index = np.asarray(draw(keys)) - np.array([0, 4])[:, None]
    assert p_value_of_orders(index[:, 0], 4) > DOUBT
    assert p_value_of_orders(index[:, 1], 6) > DOUBT
    assert p_value(index[:, 0, 0], index[:, 1, 0], sizes=(4, 6)) > DOUBT


def test_every_view_is_equally_likely(key):
    bank = make_bank([3], views=4, dim=3)
    index, mask = jnp.zeros((1, DRAWS), int), jnp.ones((1, DRAWS), bool)
    query = gather_query(bank, index, mask, view="random", key=key)
    nearest = np.argmax(np.asarray(query.features) @ np.asarray(bank.features[:, 0]).T, axis=1)
    assert p_value(nearest, sizes=(4,)) > DOUBT


@pytest.mark.parametrize("in_order", [True, False])
def test_family_runs_order_and_number_the_families(in_order):
    labels = np.repeat([0, 1, 2], 4)
    families = np.array([-1, -1, 0, 0, 0, 0, 1, 2, 3, 3, 3, 3])
    if not in_order:
        families[4:8] = [2, 0, 1, 0]
    order, runs = jax.jit(partial(family_runs))(jnp.asarray(labels), jnp.asarray(families))
    assert (order == np.arange(12)).all() == in_order
    assert families[np.asarray(order)][4:8].tolist() == [0, 0, 1, 2]
    assert runs.tolist() == [1, 2, 3, 3, 4, 4, 5, 6, 7, 7, 7, 7]
