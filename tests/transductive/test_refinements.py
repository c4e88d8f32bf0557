"""Refinements equal their published forms, and do what they say of themselves."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors import unit

from fsclip_jax.transductive.base import Batch
from fsclip_jax.transductive.catalog import REFINEMENTS
from fsclip_jax.transductive.stata import StatA
from fsclip_jax.transductive.tda import Tda
from fsclip_jax.transductive.transclip import TransClip

SCALE = 20.0
OFFLINE = [name for name in REFINEMENTS if not REFINEMENTS[name]().online]
every = pytest.mark.parametrize("name", REFINEMENTS)


def batch_of(way=6, query=60, dim=24, seed=0, noise=1.2, classes=None):
    """Queries about text features that are somewhat beside the centres of their classes."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(way, dim)))
    text = unit(centres + 0.8 * unit(rng.normal(size=(way, dim)))).astype(np.float32)
    labels = rng.choice(np.arange(way) if classes is None else classes, query)
    spread = noise * rng.normal(size=(query, dim)) / np.sqrt(dim)
    features = unit(centres[labels] + spread).astype(np.float32)
    logits = np.float32(SCALE) * features @ text.T
    batch = Batch(*map(jnp.asarray, (logits, features, np.ones(query, bool), text)))
    return batch, labels


def right(log, labels):
    return np.mean(np.asarray(log).argmax(-1) == labels)


@every
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("classes", [None, (0, 1)])
def test_equals_its_published_form(name, seed, classes):
    torch = pytest.importorskip("torch")
    form = importlib.import_module(f"published.{name}")
    batch, _ = batch_of(seed=seed, classes=classes)
    ours = np.exp(jax.jit(REFINEMENTS[name]().refine)(batch))
    given = (torch.as_tensor(np.array(part)).double() for part in (batch[0], batch[1], batch[3]))
    np.testing.assert_allclose(ours, form.refine(*given).numpy(), atol=1e-4)


@pytest.mark.parametrize("name", OFFLINE)
@given(seed=st.integers(0, 100), absent=st.integers(0, 5))
@settings(max_examples=10, deadline=None)
def test_neither_order_nor_padding_matter(name, seed, absent):
    batch, _ = batch_of(seed=seed)
    order = np.random.default_rng(seed).permutation(60 + absent)

    def moved(part, fill):
        padded = np.concatenate([part, np.full((absent, *part.shape[1:]), fill, part.dtype)])
        return jnp.asarray(padded[order])

    refine = jax.jit(REFINEMENTS[name]().refine)
    whole = Batch(moved(batch.logits, 9), moved(batch.features, 1), moved(batch.mask, 0), batch[3])
    got = np.exp(refine(whole))[np.argsort(order)[:60]]
    np.testing.assert_allclose(got, np.exp(refine(batch)), atol=2e-3)


@every
def test_a_query_alone_is_answered_as_it_was(name):
    batch, _ = batch_of(query=1)
    log = REFINEMENTS[name]().refine(batch)
    assert np.isfinite(log).all()
    assert log.argmax() == batch.logits.argmax()


@pytest.mark.parametrize(
    "refinement",
    [TransClip(weight=1e4), StatA(weight=1e4, anchor=1e9), Tda(alpha=0.0, negative_alpha=0.0)],
    ids=lambda refinement: refinement.name,
)
def test_held_fast_the_base_comes_back(refinement):
    batch, _ = batch_of()
    log = refinement.refine(batch)
    np.testing.assert_array_equal(log.argmax(-1), batch.logits.argmax(-1))
    if refinement.online:
        np.testing.assert_allclose(log, jax.nn.log_softmax(batch.logits), atol=1e-5)


@pytest.mark.parametrize("name", OFFLINE)
def test_queries_of_all_classes_help(name):
    gains = []
    for seed in range(5):
        batch, labels = batch_of(query=240, seed=seed, noise=4.0, dim=256)
        refined = jax.jit(REFINEMENTS[name]().refine)(batch)
        gains.append(right(refined, labels) - right(batch.logits, labels))
    assert np.mean(gains) > 0.01
    assert min(gains) >= 0


def test_the_anchor_keeps_answers_within_the_classes_of_a_batch():
    """A batch of one class of twenty: the text tells StatA apart what TransCLIP spreads."""
    kept = {name: [] for name in OFFLINE}
    for seed in range(5):
        batch, labels = batch_of(way=20, dim=256, query=64, seed=seed, classes=(3,), noise=2.5)
        for name in OFFLINE:
            kept[name].append(right(jax.jit(REFINEMENTS[name]().refine)(batch), labels))
    assert np.mean(kept["stata"]) > 0.98 > np.mean(kept["transclip"]) + 0.1


@given(seed=st.integers(0, 100), shots=st.integers(1, 4), negative=st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_caches_hold_the_surest_of_each_class_and_no_more(seed, shots, negative):
    batch, _ = batch_of(seed=seed)
    batch = batch._replace(mask=batch.mask.at[::7].set(False))
    tda = Tda(shots=shots, negative_shots=negative)
    _, caches = jax.jit(tda.stream)(batch)
    log = np.asarray(jax.nn.log_softmax(batch.logits))
    entropy, told = -(np.exp(log) * log).sum(-1), log.argmax(-1)
    share = entropy / np.log2(6)
    doubtful = (tda.doubt[0] < share) & (share < tda.doubt[1])
    seen = np.asarray(batch.mask)
    for cache, size, wanted in zip(caches, (shots, negative), (seen, seen & doubtful), strict=True):
        for label in range(6):
            held = np.sort(np.asarray(cache.entropy[label]))
            expected = np.sort(entropy[wanted & (told == label)])[:size]
            assert len(held) == size
            np.testing.assert_allclose(held[: len(expected)], expected, rtol=1e-4, atol=1e-5)
            assert np.isinf(held[len(expected) :]).all()


def test_a_stream_sees_nothing_of_what_is_to_come():
    batch, _ = batch_of()
    first = Batch(batch.logits[:20], batch.features[:20], batch.mask[:20], batch.text)
    np.testing.assert_allclose(Tda().refine(batch)[:20], Tda().refine(first), atol=1e-5)
