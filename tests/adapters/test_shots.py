"""The products with the shots equal the plain ones, with their gradients, at every size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsclip_jax.adapters.shots import mix_shots, score_shots

SIZES = [(3, 4, 64), (3, 4, 24), (1, 1, 7), (2, 70, 8), (2, 0, 8)]


@pytest.mark.parametrize(("way", "shot", "dim"), SIZES)
def test_values_and_gradients_equal_einsum(way, shot, dim):
    keys = jax.random.split(jax.random.key(0), 5)
    shots = jax.random.normal(keys[0], (way, shot, dim))
    probe, weights = (
        jax.random.normal(keys[1], (way, dim)),
        jax.random.normal(keys[2], (way, shot)),
    )
    pairs = [
        (score_shots, "wd,wsd->ws", probe, jax.random.normal(keys[3], (way, shot))),
        (mix_shots, "ws,wsd->wd", weights, jax.random.normal(keys[4], (way, dim))),
    ]
    for product, formula, first, tangent in pairs:
        value, pullback = jax.vjp(product, first, shots)
        plain, plain_pullback = jax.vjp(lambda x, s, f=formula: jnp.einsum(f, x, s), first, shots)
        np.testing.assert_allclose(value, plain, atol=1e-5)
        for mine, theirs in zip(pullback(tangent), plain_pullback(tangent), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_over_a_batch_of_episodes():
    shots = jax.random.normal(jax.random.key(0), (2, 3, 4, 8))
    probe = jax.random.normal(jax.random.key(1), (2, 3, 8))
    scores = jax.vmap(score_shots)(probe, shots)
    np.testing.assert_allclose(scores, jnp.einsum("bwd,bwsd->bws", probe, shots), atol=1e-5)
    mixed = jax.vmap(mix_shots)(scores, shots)
    np.testing.assert_allclose(mixed, jnp.einsum("bws,bwsd->bwd", scores, shots), atol=1e-5)
