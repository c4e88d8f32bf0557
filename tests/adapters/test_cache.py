"""Sums of affinities: in one array, in pieces, and in the kernel of accelerators, all the same."""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from fsclip_jax.adapters import cache, cache_kernel
from fsclip_jax.adapters.cache import (
    affinities,
    cache_votes,
    kernel_sums,
    votes_at_once,
    votes_in_pieces,
)
from fsclip_jax.adapters.cache_kernel import TILES, differentiable, fused_votes, kernels, works
from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.devices import batch_sharding, data_mesh


def unit(rng, *shape):
    x = rng.standard_normal(shape)
    return jnp.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True), jnp.float32)


def example(queries, way, shot, dim, seed=0):
    """Queries, keys of which three in ten are not there, weights, beta."""
    rng = np.random.default_rng(seed)
    weights = rng.random((way, shot)) * (rng.random((way, shot)) < 0.7)
    weights[0] = 0
    return (
        unit(rng, queries, dim),
        unit(rng, way, shot, dim),
        jnp.asarray(weights, jnp.float32),
        jnp.float32(5.5),
    )


def by_numpy(query, keys, weights, beta):
    query, keys, weights = (np.asarray(x, np.float64) for x in (query, keys, weights))
    near = np.exp(-float(beta) * (1 - np.einsum("qd,wsd->qws", query, keys)))
    return (near * weights[None]).sum(-1)


def of_kernel(platform):
    return jax.jit(partial(fused_votes, platform=platform, interpret=True))


FORMS = {
    "at once": jax.jit(votes_at_once),
    "in pieces": jax.jit(votes_in_pieces),
    **{platform: of_kernel(platform) for platform in TILES},
}
UNEVEN = [(1, 2, 1, 512), (70, 130, 3, 40), (65, 5, 9, 130), (300, 257, 2, 64)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sizes", UNEVEN)
def test_every_form_counts_the_same_votes(form, sizes):
    args = example(*sizes)
    np.testing.assert_allclose(FORMS[form](*args), by_numpy(*args), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("form", FORMS)
def test_keys_longer_than_one_and_steep_betas_count_alike(form):
    query, keys, weights, _ = example(70, 130, 3, 40)
    for length, beta in ((2.0, 20.0), (1.0, 0.0), (1.0, 50.0)):
        args = query, length * keys, weights, jnp.float32(beta)
        np.testing.assert_allclose(FORMS[form](*args), by_numpy(*args), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("platform", TILES)
def test_the_kernel_has_the_derivatives_of_what_it_computes(platform):
    args = example(9, 5, 3, 12)
    weigh = jnp.asarray(np.random.default_rng(1).standard_normal((9, 5)), jnp.float32)
    votes = differentiable(platform, votes_at_once, interpret=True)
    every = tuple(range(4))
    found = jax.grad(lambda *args: (weigh * votes(*args)).sum(), every)(*args)
    expected = jax.grad(lambda *args: (weigh * votes_at_once(*args)).sum(), every)(*args)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_pieces_have_the_derivatives_of_the_whole():
    args = example(9, 150, 3, 12)
    every = tuple(range(4))
    found = jax.grad(lambda *args: (votes_in_pieces(*args) ** 2).sum(), every)(*args)
    expected = jax.grad(lambda *args: (votes_at_once(*args) ** 2).sum(), every)(*args)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", [*TILES, "in pieces"])
def test_draws_side_by_side_count_as_one_by_one(form):
    draws = [example(70, 130, 3, 40, seed) for seed in range(2)]
    votes = jax.jit(jax.vmap(FORMS[form]))(*(jnp.stack(x) for x in zip(*draws, strict=True)))
    for one, args in zip(votes, draws, strict=True):
        np.testing.assert_allclose(one, by_numpy(*args), rtol=1e-5, atol=1e-7)


DEVICES = {"cuda": "NVIDIA H100 80GB HBM3", "tpu": "TPU v5 lite"}
CALLS = {"cuda": "xla.gpu.triton", "tpu": "tpu_custom_call"}


# JAX 0.12 announces the end of this backend; where it is gone, the plain form answers (`works`).
@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
@pytest.mark.parametrize("platform", TILES)
@pytest.mark.parametrize("draws", [0, 2])
def test_the_kernel_is_lowered_for_its_platform(platform, draws):
    args = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in example(1000, 100, 16, 512)]
    votes = partial(fused_votes, platform=platform)
    if draws:
        votes = jax.vmap(votes)
        args = [jax.ShapeDtypeStruct((draws, *x.shape), x.dtype) for x in args]
    device = jax.sharding.AbstractDevice(
        platform=platform, device_kind=DEVICES[platform], num_cores=1
    )
    with jax.sharding.use_abstract_mesh(
        jax.sharding.AbstractMesh((1,), ("x",), abstract_device=device)
    ):
        lowered = jax.jit(votes).trace(*args).lower(lowering_platforms=(platform,))
    text = lowered.as_text()
    assert CALLS[platform] in text
    assert "stablehlo.dot_general" not in text


def accelerated(monkeypatch, platform="cuda", devices=1):
    """Let the package take this CPU for an accelerator; what it is asked to run is interpreted."""
    backend = {"cuda": "gpu", "tpu": "tpu"}[platform]
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "device_count", lambda: devices)


def test_the_kernel_is_for_many_affinities_on_one_accelerator_that_can_run_it(monkeypatch):
    sizes = (cache_kernel.LARGE // 1600 + 1, 100, 16, 8)
    assert kernels(*sizes, votes_at_once) == {}  # a CPU
    accelerated(monkeypatch)
    assert kernels(*sizes, votes_at_once) == {}  # refused: nothing is lowered for a GPU here
    monkeypatch.setattr(cache_kernel, "works", lambda *_: True)
    assert list(kernels(*sizes, votes_at_once)) == ["cuda"]
    assert kernels(1000, *sizes[1:], votes_at_once) == {}
    accelerated(monkeypatch, "tpu")
    assert list(kernels(*sizes, votes_at_once)) == ["tpu"]
    accelerated(monkeypatch, devices=2)
    assert kernels(*sizes, votes_at_once) == {}


@pytest.mark.parametrize("platform", TILES)
def test_what_refuses_or_miscounts_is_not_used(monkeypatch, platform):
    works.cache_clear()
    assert not works(platform, 2, 8)
    plain = fused_votes
    monkeypatch.setattr(cache_kernel, "fused_votes", partial(plain, interpret=True))
    works.cache_clear()
    assert works(platform, 2, 8)
    assert jax.jit(lambda x: x + works(platform, 3, 8))(1) == 2  # also while another is traced
    wrong = lambda *args, platform: 1.1 * plain(*args, platform=platform, interpret=True)  # noqa: E731
    monkeypatch.setattr(cache_kernel, "fused_votes", wrong)
    works.cache_clear()
    assert not works(platform, 2, 8)
    works.cache_clear()


def test_without_pallas_all_is_as_if_there_were_no_kernel(monkeypatch):
    works.cache_clear()
    monkeypatch.setitem(sys.modules, "jax.experimental.pallas", None)
    assert not works("cuda", 2, 8)
    works.cache_clear()


CACHES = ("tip_adapter", "tip_adapter_f", "tip_x", "ape", "ape_t", "proker", "meta_prior")


@pytest.mark.parametrize("name", CACHES)
def test_a_method_answers_in_pieces_as_it_does_at_once(monkeypatch, name):
    adapter, key = get_adapter(name), jax.random.key(0)
    task, query = example_task(way=7, shot=5, query=50, dim=12)
    task = task._replace(support_mask=task.support_mask.at[2, 3:].set(False))
    state = adapter.fit(adapter.init(key, 12), task, key)
    expected = adapter.logits(state, query.features)
    monkeypatch.setattr(cache, "MANY", 0)
    monkeypatch.setattr(cache, "MANY_KEYS", 8)
    found = adapter.logits(state, query.features)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CACHES)
def test_no_method_writes_an_array_of_queries_and_keys(name):
    way, shot, queries, dim = 1000, 16, 12_000, 16
    adapter, key = get_adapter(name), jax.random.key(0)
    task, _ = example_task(way, shot, 1, dim)
    state = jax.eval_shape(adapter.fit, adapter.init(key, dim), task, key)
    query = jax.ShapeDtypeStruct((queries, dim), jnp.float32)
    memory = jax.jit(adapter.logits).lower(state, query).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * queries * way * shot / 2


@pytest.mark.parametrize(("way", "shot"), [("300", "8"), ("way", "8"), ("way", "shot")])
def test_a_program_for_any_number_of_queries_works_in_pieces(monkeypatch, way, shot):
    accelerated(monkeypatch)
    monkeypatch.setattr(cache_kernel, "works", lambda *_: True)
    sizes = export.symbolic_shape(f"query, {way}, {shot}")
    query, keys, weights = (
        jax.ShapeDtypeStruct(shape, jnp.float32)
        for shape in ((sizes[0], 16), (*sizes[1:], 16), sizes[1:])
    )
    exported = export.export(jax.jit(cache_votes), platforms=("cpu", "cuda", "tpu"))
    program = exported(query, keys, weights, jnp.float32(0))
    text = program.mlir_module()  # no kernel: what it is written in may change with the next JAX
    assert not [call for call in CALLS.values() if call in text]
    args = example(70, 300, 8, 16)
    found = export.deserialize(program.serialize()).call(*args)
    np.testing.assert_allclose(found, by_numpy(*args), rtol=1e-5, atol=1e-7)


def test_settings_side_by_side_count_as_one_by_one():
    query, keys, weights, _ = example(30, 7, 2, 12)
    alphas, betas, gammas = jnp.linspace(0.1, 9, 20), jnp.linspace(0.1, 30, 200), jnp.arange(20.0)

    def votes(alpha, beta, gamma):
        return alpha * cache_votes(query, keys, gamma * weights, beta)

    every = jax.vmap(jax.vmap(jax.vmap(votes, (0, None, None)), (None, 0, None)), (None, None, 0))
    found = jax.jit(every)(alphas, betas, gammas)[3, 150]
    expected = by_numpy(query, keys, 3 * weights, betas[150])[None] * alphas[:, None, None]
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_devices_that_share_the_queries_keep_them():
    rows = batch_sharding(data_mesh(4))
    args = example(4000, 1000, 3, 16)
    votes = jax.jit(cache_votes, in_shardings=(rows, None, None, None), out_shardings=rows)
    assert args[0].shape[0] * args[2].size > cache.MANY
    np.testing.assert_allclose(votes(*args), votes_at_once(*args), rtol=1e-5, atol=1e-7)
    text = votes.lower(*args).compile().as_text()
    assert not [name for name in ("all-gather", "all-to-all", "all-reduce") if name in text]


def test_sums_in_pieces_have_the_values_and_derivatives_of_the_whole():
    rng = np.random.default_rng(0)
    query, keys = unit(rng, 2100, 8), unit(rng, cache.MANY_KEYS * 2 + 3, 8)
    args = query, keys, jnp.asarray(rng.standard_normal((len(keys), 3)), jnp.float32)

    def whole(query, keys, coefficients):
        return affinities(query, keys, jnp.float32(2)) @ coefficients

    def pieces(*args):
        return kernel_sums(*args, jnp.float32(2))

    np.testing.assert_allclose(pieces(*args), whole(*args), rtol=1e-4, atol=1e-3)
    found, expected = (
        jax.grad(lambda *args, of=of: (of(*args) ** 2).mean(), (0, 1, 2))(*args)
        for of in (pieces, whole)
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max())
