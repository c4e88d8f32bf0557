"""What makes the towers fast changes no result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsclip_jax.clip import attention, micro_batches, resnet, siglip, vit
from fsclip_jax.clip.attention import Past, attend, flash_attention
from fsclip_jax.clip.config import (
    ClipConfig,
    ResNetConfig,
    SiglipTextConfig,
    SiglipVisionConfig,
    TextConfig,
    VitConfig,
)
from fsclip_jax.clip.micro_batches import transformer_piece
from fsclip_jax.clip.model import cast_weights, encode_image, encode_patches, encode_text, init_clip
from fsclip_jax.clip.resnet import resnet_piece

TEXT = TextConfig(64, 8, 16, 2, 2, 32, embed_dim=8)
VIT = ClipConfig(VitConfig(32, 16, 24, 2, 3, 48, embed_dim=8), TEXT)
RESNET = ClipConfig(ResNetConfig((1, 1, 1, 1), 4, 32, embed_dim=8, heads=2, folded=True), TEXT)
SIGLIP = ClipConfig(
    SiglipVisionConfig(32, 16, 24, 2, 3, 48), SiglipTextConfig(32, 4, 16, 2, 2, 32, embed_dim=24)
)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def plain_attention(q, k, v, mask):
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])
    weights = np.exp(np.where(mask[:, None], scores, -np.inf))
    return np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdims=True), v)


@pytest.mark.parametrize("past", [0, 4])
def test_attention_is_softmax_of_scores_over_all_that_is_seen(past):
    q, k, v = (numbers(2, past + 5, 3, 8, seed=seed) for seed in range(3))
    k[:, :past], v[:, :past] = k[:1, :past], v[:1, :past]  # the same for all sequences
    mask = np.tril(np.ones((past + 5, past + 5), bool))[None]
    expected = plain_attention(q, k, v, mask)[:, past:]
    before = Past(jnp.asarray(k[0, :past]), jnp.asarray(v[0, :past])) if past else None
    own = (jnp.asarray(x[:, past:]) for x in (q, k, v))
    found = attend(*own, jnp.asarray(mask[:, past:, past:]), before)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_large_scores_do_not_overflow():
    q = jnp.asarray(100 * numbers(1, 4, 2, 8))
    found, slope = jax.value_and_grad(lambda q: attend(q, q, q).sum())(q)
    assert jnp.isfinite(found)
    assert jnp.isfinite(slope).all()


def inputs_of(jaxpr, name):
    """Types that a primitive is applied to, in the inner programs as well."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == name:
            yield equation.invars[0].aval.dtype
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from inputs_of(inner, name)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_bfloat16_keeps_norms_and_softmax_in_float32(tower):
    graphdef, state = init_clip(VIT, 0)
    half = cast_weights(state, jnp.bfloat16)
    encode, given = encode_image, numbers(4, 32, 32, 3)
    if tower == "text":
        encode, given = encode_text, np.array([[60, 3, 63, 63], [60, 4, 5, 63]])
    program = jax.make_jaxpr(lambda state, x: encode(graphdef, state, x))(half, given).jaxpr
    products = set(inputs_of(program, "dot_general"))
    assert products == {jnp.dtype(jnp.bfloat16)}
    for name in ("exp", "rsqrt"):
        assert set(inputs_of(program, name)) == {jnp.dtype(jnp.float32)}, name
    found, exact = (jax.jit(encode, static_argnums=0)(graphdef, s, given) for s in (half, state))
    cosine = (found * exact).sum(-1) / jnp.linalg.norm(found, axis=-1)
    np.testing.assert_allclose(cosine / jnp.linalg.norm(exact, axis=-1), 1, atol=2e-3)


@pytest.mark.parametrize("kind", ["resnet", "vit", "siglip"])
@pytest.mark.parametrize("count", [3, 4, 8, 9])
def test_a_tower_gives_the_same_in_pieces(kind, count, monkeypatch):
    config = {"resnet": RESNET, "vit": VIT, "siglip": SIGLIP}[kind]
    graphdef, state = init_clip(config, 0)
    module, name = {
        "resnet": (resnet, "resnet_piece"),
        "vit": (vit, "transformer_piece"),
        "siglip": (siglip, "transformer_piece"),
    }[kind]
    pixels = jnp.asarray(numbers(count, 32, 32, 3))
    found = {}
    for piece in (0, 4):
        monkeypatch.setattr(module, name, lambda *_, piece=piece: piece)
        run = jax.jit(
            lambda state, x: (
                encode_image(graphdef, state, x),
                *encode_patches(graphdef, state, x),
            )
        )
        found[piece] = run(state, pixels)
        loops = run.lower(state, pixels).as_text().count("stablehlo.while")
        assert loops == (2 if piece == 4 and count == 8 else 0)
    assert [len(x) for x in found[4]] == [count] * 3
    for whole, some in zip(found[0], found[4], strict=True):
        np.testing.assert_allclose(some, whole, rtol=1e-4, atol=1e-5)


@pytest.fixture
def asked(monkeypatch):
    """Let the code believe in a GPU, and note how cuDNN is asked."""
    calls = []

    def answer(*arrays, **settings):
        calls.append(settings)
        return jnp.ones_like(arrays[0])

    monkeypatch.setattr(attention.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(attention.jax.nn, "dot_product_attention", answer)
    return calls


def test_cudnn_is_asked_for_what_it_does(asked):
    half = jnp.ones((2, 5, 3, 8), jnp.bfloat16)
    mask = jnp.ones((1, 5, 5), bool)
    assert flash_attention(half, half, half, None, False).shape == half.shape
    assert flash_attention(half, half, half, mask, True).shape == half.shape
    assert asked == [{"is_causal": causal, "implementation": "cudnn"} for causal in (False, True)]
    odd, single = jnp.ones((2, 5, 3, 9), jnp.bfloat16), half.astype(jnp.float32)
    assert flash_attention(half, half, half, mask, False) is None
    assert flash_attention(odd, odd, odd, None, False) is None
    assert flash_attention(single, single, single, None, False) is None
    assert len(asked) == 2


def test_a_causal_block_asks_for_causal_attention_but_for_one_position(asked):
    config = ClipConfig(VIT.vision, TextConfig(64, 8, 16, 3, 2, 32, embed_dim=8))
    graphdef, state = init_clip(config, 0)
    half = cast_weights(state, jnp.bfloat16)
    jax.eval_shape(lambda s: encode_text(graphdef, s, jnp.zeros((1, 4), jnp.int32)), half)
    assert [settings["is_causal"] for settings in asked] == [True, True]
    asked.clear()
    jax.eval_shape(lambda s: encode_image(graphdef, s, jnp.zeros((1, 32, 32, 3))), half)
    assert [settings["is_causal"] for settings in asked] == [False, False]


def test_without_cudnn_attention_is_computed_all_the_same(asked, monkeypatch):
    def missing(*_, **__):
        raise RuntimeError("cuDNN is not detected.")

    monkeypatch.setattr(attention.jax.nn, "dot_product_attention", missing)
    half = jnp.ones((2, 5, 3, 8), jnp.bfloat16)
    assert flash_attention(half, half, half, None, False) is None
    assert asked == []


def test_as_many_images_as_stay_near(monkeypatch):
    resnet50 = ResNetConfig((3, 4, 6, 3), 64, 224, 1024, 32)
    mini = ResNetConfig((1, 2, 2, 1), 28, 32, 192, 14)
    wide = ResNetConfig((3, 15, 36, 10), 128, 448, 1024, 64)
    assert [resnet_piece(config) for config in (resnet50, mini, wide)] == [4, 256, 4]
    assert [transformer_piece(n, 3072) for n in (50, 197)] == [64, 16]
    assert transformer_piece(10**6, 4096) == 1
    monkeypatch.setattr(micro_batches.jax, "default_backend", lambda: "gpu")
    assert resnet_piece(resnet50) == 0
    assert transformer_piece(257, 4096) == 0
