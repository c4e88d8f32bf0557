"""The modified ResNet. Its parity with open_clip is in ``test_clip_parity.py``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_clips
from flax import nnx
from jax import lax

from fsclip_jax.clip import resnet
from fsclip_jax.clip.config import ResNetConfig
from fsclip_jax.clip.convolve import average_pool, convolve
from fsclip_jax.clip.load import find_model, load_clip
from fsclip_jax.clip.model import encode_image, encode_text
from fsclip_jax.clip.resnet import ModifiedResNet


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("side", "channels"), [(1, 5), (2, 5), (7, 3), (6, 5)])
def test_every_form_of_the_convolution_gives_the_same_sums_and_gradients(side, channels, stride):
    rng = np.random.RandomState(side)
    x = rng.standard_normal((2, side, side, channels)).astype(np.float32)
    kernel = rng.standard_normal((3, 3, channels, 4)).astype(np.float32)
    out = -(-side // stride)
    weights = rng.standard_normal((2, out, out, 4)).astype(np.float32)

    def plain(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (stride,) * 2, [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    @jax.jit
    def both(x, kernel):
        values = [jax.vjp(form, x, kernel) for form in (lambda x, k: convolve(x, k, stride), plain)]
        return [(value, *backward(weights)) for value, backward in values]

    ours, theirs = both(x, kernel)
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, atol=1e-4)


@pytest.mark.parametrize(("device", "wanted"), [("gpu", True), ("cpu", False)])
def test_only_the_cpu_gets_another_form(device, wanted, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    traced = jax.make_jaxpr(lambda x, k: convolve(x, k))(
        jnp.ones((1, 2, 2, 3)), jnp.ones((3, 3, 3, 4))
    )
    assert ("conv_general_dilated" in str(traced)) == wanted


def test_average_pooling_leaves_out_an_odd_edge():
    x = jnp.arange(25.0).reshape(1, 5, 5, 1)
    assert average_pool(x)[0, :, :, 0].tolist() == [[3.0, 5.0], [13.0, 15.0]]


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_bfloat16_under_jit_stays_close(count, folded):
    # jaxlib 0.12 fuses convolutions, rectifiers and a mean behind them, and gets inf and NaN.
    config = ResNetConfig((1, 1, 1, 1), 64, 64, embed_dim=64, heads=8, folded=folded)
    graphdef, state = nnx.split(ModifiedResNet(config, rngs=nnx.Rngs(0)))
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state)
    images = jax.random.normal(jax.random.key(1), (count, 64, 64, 3), jnp.bfloat16)
    encode = jax.jit(lambda state, images: nnx.merge(graphdef, state)(images))
    whole = encode(state, images.astype(jnp.float32))
    np.testing.assert_allclose(
        encode(half, images).astype(jnp.float32), whole, atol=0.02 * jnp.abs(whole).max()
    )


@pytest.fixture(scope="module")
def tower():
    config = ResNetConfig((1, 2, 1, 1), 4, 32, embed_dim=6, heads=2)

    graphdef, params, stats = nnx.split(
        nnx.eval_shape(lambda: resnet.ModifiedResNet(config, rngs=nnx.Rngs(0))), nnx.Param, ...
    )
    rng = np.random.RandomState(0)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(0.2 * rng.standard_normal(leaf.shape), jnp.float32), params
    )
    stats = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.full(leaf.shape, float("var" in jax.tree_util.keystr(path))), stats
    )
    parts = graphdef, params, stats
    pixels = jax.random.normal(jax.random.key(3), (8, 32, 32, 3)) * 2 + 1

    @jax.jit
    def runs(params, stats):
        results = []
        for train in (False, True):
            model = nnx.merge(parts[0], params, stats, copy=True)
            out = model(pixels, train=train)
            results.append((out, nnx.state(model, nnx.BatchStat)))
        first = nnx.merge(parts[0], params, stats, copy=True).conv1(pixels)
        return *results, first

    return parts, pixels, runs(*parts[1:])


def test_inference_leaves_the_statistics_and_training_moves_them(tower):
    (_, _, before), _, ((_, kept), (_, moved), _) = tower
    same = jax.tree.map(lambda a, b: bool((a == b).all()), before, kept)
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), before, moved)
    assert all(jax.tree.leaves(same))
    assert all(jax.tree.leaves(changed))


def test_statistics_follow_the_batch_with_momentum_nine_tenths(tower):
    _, _, (_, (_, moved), first) = tower
    first = np.asarray(first)
    norm = moved["bn1"]
    mean, var = 0.1 * first.mean((0, 1, 2)), 0.9 + 0.1 * first.var((0, 1, 2))
    np.testing.assert_allclose(norm["mean"][...], mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm["var"][...], var, rtol=1e-4)


def test_an_image_sees_its_neighbours_in_training_alone(tower):
    (graphdef, params, stats), pixels, ((alone, _), (together, _), _) = tower

    @jax.jit
    def few(params, stats, pixels):
        model = nnx.merge(graphdef, params, stats, copy=True)
        return model(pixels), model(pixels, train=True)

    at_inference, in_training = few(params, stats, pixels[:2])
    np.testing.assert_allclose(at_inference, alone[:2], atol=1e-5)
    assert np.abs(in_training - together[:2]).max() > 1e-3


def test_a_block_starts_as_its_shortcut():
    block = resnet.Bottleneck(8, 2, 1, rngs=nnx.Rngs(0))
    x = jnp.abs(jax.random.normal(jax.random.key(0), (1, 4, 4, 8)))
    assert bool((block(x) == x).all())


def test_images_of_another_size_are_refused(tower):
    (graphdef, params, stats), _, _ = tower
    with pytest.raises(ValueError, match=r"\(64, 64\), the tower takes \(32, 32\)"):
        nnx.merge(graphdef, params, stats)(jnp.zeros((1, 64, 64, 3)))


def test_the_bundled_mini_is_the_same_in_open_clip():
    pytest.importorskip("torch")
    mini = load_clip("mini")  # imports transformers, which must not meet the stand-ins
    open_clip = torch_clips.import_open_clip()
    import torch

    folder = f"local-dir:{find_model('mini')}"
    theirs = open_clip.create_model(folder).eval()
    prompts = ["red apple", "Jack-o-lantern", "a much longer name than any that it has seen " * 3]
    # Its inner tokenizer: the outer one first cleans texts with ftfy, which has a stand-in.
    tokenizer = open_clip.get_tokenizer(folder).tokenizer
    tokens = tokenizer(prompts, padding="max_length", truncation=True, max_length=16)["input_ids"]
    ids = mini.tokenizer(prompts)
    assert ids.tolist() == tokens
    pixels = np.random.RandomState(0).standard_normal((3, 32, 32, 3)).astype(np.float32)
    with torch.no_grad():
        images = theirs.encode_image(torch.tensor(pixels).permute(0, 3, 1, 2)).numpy()
        texts = theirs.encode_text(torch.tensor(tokens)).numpy()
    ours = jax.jit(encode_image, static_argnums=0)(mini.graphdef, mini.state, jnp.asarray(pixels))
    np.testing.assert_allclose(ours, images, rtol=0, atol=1e-5 * np.abs(images).max())
    ours = jax.jit(encode_text, static_argnums=0)(mini.graphdef, mini.state, jnp.asarray(ids))
    np.testing.assert_allclose(ours, texts, rtol=0, atol=1e-5 * np.abs(texts).max())
    np.testing.assert_allclose(
        mini.logit_scale, float(theirs.logit_scale.detach().exp()), rtol=1e-5
    )
