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
from fsclip_jax.clip.load import find_folder, load_clip
from fsclip_jax.clip.model import encode_image, encode_text


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("side", "channels"), [(1, 5), (2, 5), (3, 4), (8, 3), (7, 3), (6, 5)])
def test_every_form_of_the_convolution_gives_the_same_sums_and_gradients(
    key, side, channels, stride
):
    x = jax.random.normal(key, (2, side, side, channels))
    kernel = jax.random.normal(jax.random.fold_in(key, 1), (3, 3, channels, 4))

    def plain(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (stride,) * 2, [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def ours(x, kernel):
        return resnet.convolve(x, kernel, stride)

    np.testing.assert_allclose(ours(x, kernel), plain(x, kernel), atol=1e-5)
    weights = jax.random.normal(jax.random.fold_in(key, 2), plain(x, kernel).shape)
    grads, wanted = (
        jax.grad(lambda x, k, f=f: (f(x, k) * weights).sum(), argnums=(0, 1))(x, kernel)
        for f in (ours, plain)
    )
    for grad, want in zip(grads, wanted, strict=True):
        np.testing.assert_allclose(grad, want, atol=1e-4)


def test_only_the_cpu_gets_another_form(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    traced = jax.make_jaxpr(resnet.convolve)(jnp.ones((1, 2, 2, 3)), jnp.ones((3, 3, 3, 4)))
    assert "conv_general_dilated" in str(traced)
    monkeypatch.undo()
    traced = jax.make_jaxpr(resnet.convolve)(jnp.ones((1, 2, 2, 3)), jnp.ones((3, 3, 3, 4)))
    assert "conv_general_dilated" not in str(traced)


def test_average_pooling_leaves_out_an_odd_edge():
    x = jnp.arange(25.0).reshape(1, 5, 5, 1)
    assert resnet.average_pool(x)[0, :, :, 0].tolist() == [[3.0, 5.0], [13.0, 15.0]]


@pytest.fixture(scope="module")
def tower():
    config = ResNetConfig((1, 2, 1, 1), 4, 32, embed_dim=6, heads=2)
    model = resnet.ModifiedResNet(config, rngs=nnx.Rngs(0))
    pixels = jax.random.normal(jax.random.key(3), (8, 32, 32, 3)) * 2 + 1
    return nnx.split(model, nnx.Param, nnx.BatchStat), pixels


def run(tower, train):
    (graphdef, params, stats), pixels = tower
    model = nnx.merge(graphdef, params, stats, copy=True)
    out = model(pixels, train=train)
    return out, nnx.state(model, nnx.BatchStat)


def test_inference_leaves_the_statistics_and_training_moves_them(tower):
    (_, _, before), _ = tower
    _, kept = run(tower, train=False)
    _, moved = run(tower, train=True)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), before, kept)
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), before, moved)
    assert all(jax.tree.leaves(same))
    assert all(jax.tree.leaves(changed))


def test_statistics_follow_the_batch_with_momentum_nine_tenths(tower):
    (_, _, _), pixels = tower
    _, moved = run(tower, train=True)
    (graphdef, params, stats), _ = tower
    first = nnx.merge(graphdef, params, stats, copy=True).conv1(pixels)
    np.testing.assert_allclose(
        moved["bn1"]["mean"][...], 0.1 * first.mean((0, 1, 2)), rtol=1e-4, atol=1e-6
    )
    wanted = 0.9 + 0.1 * first.var((0, 1, 2))
    np.testing.assert_allclose(moved["bn1"]["var"][...], wanted, rtol=1e-4)


def test_an_image_does_not_see_its_neighbours_at_inference(tower):
    (graphdef, params, stats), pixels = tower
    model = nnx.merge(graphdef, params, stats)
    np.testing.assert_allclose(model(pixels)[:2], model(pixels[:2]), atol=1e-5)


def test_a_block_starts_as_its_shortcut(tower):
    (graphdef, params, stats), _ = tower
    block = nnx.merge(graphdef, params, stats).stages[1][1]  # the one without a downsample
    x = jnp.abs(jax.random.normal(jax.random.key(0), (1, 4, 4, 32)))
    assert bool((block(x) == x).all())


def test_images_of_another_size_are_refused(tower):
    (graphdef, params, stats), _ = tower
    with pytest.raises(ValueError, match=r"\(64, 64\), the tower takes \(32, 32\)"):
        nnx.merge(graphdef, params, stats)(jnp.zeros((1, 64, 64, 3)))


def test_the_bundled_mini_is_the_same_in_open_clip():
    open_clip = torch_clips.import_open_clip()
    import torch

    mini = load_clip("mini")
    folder = f"local-dir:{find_folder('mini')}"
    theirs = open_clip.create_model(folder).eval()
    prompts = ["red apple", "Jack-o-lantern", "a much longer name than any that it has seen " * 3]
    tokens = open_clip.get_tokenizer(folder)(prompts)
    ids = mini.tokenizer(prompts)
    assert (ids == tokens.numpy()).all()
    pixels = np.random.RandomState(0).standard_normal((3, 32, 32, 3)).astype(np.float32)
    with torch.no_grad():
        images = theirs.encode_image(torch.tensor(pixels).permute(0, 3, 1, 2)).numpy()
        texts = theirs.encode_text(tokens).numpy()
    ours = encode_image(mini.graphdef, mini.state, jnp.asarray(pixels))
    np.testing.assert_allclose(ours, images, rtol=0, atol=1e-5 * np.abs(images).max())
    ours = encode_text(mini.graphdef, mini.state, jnp.asarray(ids))
    np.testing.assert_allclose(ours, texts, rtol=0, atol=1e-5 * np.abs(texts).max())
    np.testing.assert_allclose(mini.logit_scale, float(theirs.logit_scale.exp()), rtol=1e-5)
