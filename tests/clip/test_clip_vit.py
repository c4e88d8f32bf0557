import clip_cases as cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fsclip_jax.clip.config import ClipConfig, ResNetConfig, TextConfig, VitConfig
from fsclip_jax.clip.model import abstract_clip, cast_weights, init_clip
from fsclip_jax.clip.vit import cut_patches
from fsclip_jax.clip.weights import leaf_paths

NAME = "patch16_quick_largest_id"


def test_patches_times_a_matrix_are_a_convolution():
    pixels = np.random.RandomState(0).standard_normal((2, 12, 12, 3)).astype(np.float32)
    kernel = np.random.RandomState(1).standard_normal((4, 4, 3, 5)).astype(np.float32)
    conv = jax.lax.conv_general_dilated(
        pixels, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    ours = cut_patches(jnp.asarray(pixels), 4) @ kernel.reshape(-1, 5)
    np.testing.assert_allclose(ours, conv.reshape(2, 9, 5), rtol=1e-5, atol=1e-5)


def test_every_patch_counts_and_images_do_not_mix():
    graphdef, state = cases.model_of(NAME)
    pixels = jnp.asarray(cases.pixels_of(NAME))
    # The second feature as a function of all pixels: its own image only, every pixel of it.
    size = jnp.abs(
        jax.jit(jax.grad(lambda x: cases.encode_image(graphdef, state, x)[1].sum()))(pixels)
    )
    assert (size[1].sum(-1) > 0).all()
    assert (size[0] == 0).all()
    assert (size[2] == 0).all()


def test_another_image_size_is_refused():
    graphdef, state = cases.model_of(NAME)
    with pytest.raises(ValueError, match=r"\(48, 48\), the tower takes \(32, 32\)"):
        cases.encode_image(graphdef, state, jnp.zeros((1, 48, 48, 3)))


@pytest.mark.parametrize("name", [NAME, "open_clip_rn"])
def test_bfloat16_weights_compute_in_bfloat16_and_stay_close(name):
    graphdef, state = cases.model_of(name)
    low = cast_weights(state, jnp.bfloat16)
    assert leaf_paths(low)["logit_scale"].dtype == jnp.float32
    model = nnx.merge(graphdef, low)
    pixels, ids = cases.pixels_of(name), cases.ids_of(name)
    images = jax.eval_shape(model.vision, jax.ShapeDtypeStruct(pixels.shape, jnp.bfloat16))
    assert images.dtype == jnp.bfloat16
    assert jax.eval_shape(model.text, ids).dtype == jnp.bfloat16
    for encode, x in ((cases.encode_image, pixels), (cases.encode_text, ids)):
        ours, exact = encode(graphdef, low, x), encode(graphdef, state, x)
        assert ours.dtype == jnp.float32
        assert 0 < cases.relative_error(ours, exact) < 0.1


def test_a_new_clip_starts_near_the_published_scale():
    text = TextConfig(48, 16, 48, 1, 4, 48, embed_dim=48)
    config = ClipConfig(VitConfig(32, 16, 48, 1, 6, 48, embed_dim=48), text)
    graphdef, state = init_clip(config, 0)
    abstract_graph, abstract = abstract_clip(config)
    assert abstract_graph == graphdef
    shapes = {path: leaf.shape for path, leaf in leaf_paths(abstract).items()}
    assert shapes == {path: leaf.shape for path, leaf in leaf_paths(state).items()}
    images = cases.encode_image(
        graphdef, state, np.random.RandomState(0).standard_normal((4, 32, 32, 3)).astype(np.float32)
    )
    assert 0.2 < float(images.std()) < 5
    assert float(jnp.exp(leaf_paths(state)["logit_scale"])) == pytest.approx(1 / 0.07, rel=1e-3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: VitConfig(30, 16, 24, 1, 3, 48, 8), "image_size 30"),
        (lambda: VitConfig(32, 16, 24, 1, 5, 48, 8), "5 heads"),
        (lambda: ResNetConfig((1, 1, 1), 8, 64, 8, 4), "4 stages"),
        (lambda: TextConfig(64, 8, 16, 1, 3, 32, 8), "3 heads"),
        (
            lambda: ClipConfig(
                VitConfig(32, 16, 24, 1, 3, 48, 9), TextConfig(64, 8, 16, 1, 2, 32, 8)
            ),
            "vision 9, text 8",
        ),
    ],
)
def test_impossible_shapes_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
