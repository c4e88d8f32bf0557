"""Episodes do not depend on the devices, and nothing is compiled twice."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiles import compiled
from episode_banks import assert_follows_the_rules, make_bank

from fsclip_jax.devices import batch_sharding, data_mesh, replicated
from fsclip_jax.episodes.sampler import EpisodeSpec, sample_batch, sample_episode
from fsclip_jax.errors import UserError

SPEC, LARGEST, BATCH = EpisodeSpec(4, 3, 2, min_shot=1), 9, 16


@pytest.fixture(params=["images", "families"], scope="module")
def bank(request):
    sizes = [5, 9, 4, 2, 7, 6]
    families = np.random.default_rng(0).integers(0, 3, sum(sizes))
    return make_bank(sizes, families if request.param == "families" else None)


@pytest.fixture(scope="module")
def expected(bank):
    """What one device gives, episode by episode."""
    keys = jax.random.split(jax.random.key(7), BATCH)
    episodes = [sample_episode(k, bank, SPEC, LARGEST) for k in keys]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *episodes)


def assert_same(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_a_batch_is_the_same_on_any_number_of_devices(bank, expected, devices):
    mesh = data_mesh(devices)
    batch = sample_batch(jax.random.key(7), bank, SPEC, LARGEST, BATCH, mesh)
    assert_same(batch, expected)
    for leaf in batch:
        assert leaf.sharding.is_equivalent_to(batch_sharding(mesh), leaf.ndim)
        assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {BATCH // devices}


def test_a_batch_without_a_mesh_is_the_same(bank, expected):
    assert_same(sample_batch(jax.random.key(7), bank, SPEC, LARGEST, BATCH), expected)


@partial(jax.pmap, in_axes=(0, None))
@partial(jax.vmap, in_axes=(0, None))
def one_device_sampler(key, bank):
    return sample_episode(key, bank, SPEC, LARGEST)


def test_a_sharded_batch_equals_pmap_of_the_one_device_sampler(bank, expected):
    keys = jax.random.split(jax.random.key(7), BATCH).reshape(8, BATCH // 8)
    by_pmap = one_device_sampler(keys, bank)
    assert_same(jax.tree.map(lambda leaf: leaf.reshape(BATCH, *leaf.shape[2:]), by_pmap), expected)


def test_each_device_draws_only_its_own_episodes():
    mesh = data_mesh(8)
    bank = jax.device_put(make_bank([5, 9, 4, 2, 7, 6]), replicated(mesh))
    draw = jax.jit(lambda key, bank: sample_batch(key, bank, SPEC, LARGEST, BATCH, mesh))
    text = draw.lower(jax.random.key(0), bank).compile().as_text()
    assert not any(word in text for word in ("all-gather", "all-reduce", "collective-permute"))
    assert f"s32[{BATCH // 8},4,3]" in text
    assert f"s32[{BATCH},4,3]" not in text


def test_compiled_and_uncompiled_episodes_are_equal():
    bank, key = make_bank([5, 9, 4]), jax.random.key(3)
    spec = EpisodeSpec(2, 1, 1)
    compiled = sample_episode(key, bank, spec, 9)
    with jax.disable_jit():
        assert_same(sample_episode(key, bank, spec, 9), compiled)


def test_one_compile_serves_every_key_and_every_bank_of_a_size(bank):
    sample_batch(jax.random.key(0), bank, SPEC, LARGEST, 4)
    other = make_bank([5, 9, 4, 2, 6, 7], np.arange(33) % 4, seed=1)
    before = compiled()
    for seed in range(1, 5):
        sample_batch(jax.random.key(seed), bank, SPEC, LARGEST, 4)
    sample_batch(jax.random.key(0), other, SPEC, LARGEST, 4)
    assert compiled() == before


def test_only_the_sampler_that_the_bank_needs_runs_under_vmap():
    bank = make_bank([5, 9, 4, 2, 7, 6])
    keys = jax.random.split(jax.random.key(0), 4)
    draw = jax.vmap(lambda k, b: sample_episode(k, b, SPEC, LARGEST), in_axes=(0, None))
    text = jax.jit(draw).lower(keys, bank).as_text()
    # Two choices by family (which classes, which images) and one inside (is the bank sorted).
    assert text.count("stablehlo.case") == 3


def test_a_batch_that_the_devices_cannot_share_is_refused(bank):
    with pytest.raises(UserError, match=r"6 episodes .* over 4 devices: .* multiple of 4"):
        sample_batch(jax.random.key(0), bank, SPEC, LARGEST, 6, data_mesh(4))


def test_a_bank_of_the_size_of_imagenet_needs_little_memory():
    classes, size, spec = 1000, 1300, EpisodeSpec(1000, 16, 15)
    bank = make_bank([size] * classes, dim=1)
    draw = jax.jit(lambda key, bank: sample_batch(key, bank, spec, size, 8, None))
    program = draw.lower(jax.random.key(0), bank).compile()
    of_images = classes * size * 4
    assert program.memory_analysis().temp_size_in_bytes < 8 * of_images
    batch = program(jax.random.key(0), bank)
    assert_follows_the_rules_in_numbers(bank, batch)


def assert_follows_the_rules_in_numbers(bank, batch):
    rows = np.concatenate([batch.support, batch.query], axis=-1)
    assert np.asarray(batch.support_mask).all()
    assert np.asarray(batch.query_mask).all()
    np.testing.assert_array_equal(
        np.asarray(bank.labels)[rows], np.broadcast_to(batch.classes[..., None], rows.shape)
    )
    assert all(len(np.unique(episode)) == episode.size for episode in rows)


def test_a_batch_follows_the_rules(bank):
    batch = jax.tree.map(np.asarray, sample_batch(jax.random.key(5), bank, SPEC, LARGEST, 16))
    for i in range(16):
        assert_follows_the_rules(bank, SPEC, jax.tree.map(lambda leaf, i=i: leaf[i], batch))


def test_keys_of_steps_give_other_episodes(bank):
    key = jax.random.key(0)
    first, second = (
        sample_batch(jax.random.fold_in(key, step), bank, SPEC, LARGEST, 4) for step in (0, 1)
    )
    assert jnp.any(first.support != second.support)
