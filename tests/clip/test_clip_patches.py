"""Patch features: PyTorch's own modules, applied to every position by hand, give the same."""

import clip_cases as cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_clips

from fsclip_jax.clip.model import encode_patches

encode = jax.jit(encode_patches, static_argnums=0)


@pytest.fixture(scope="module", params=cases.CASES)
def encoded(request):
    name = request.param
    graphdef, state = cases.model_of(name)
    return name, *encode(graphdef, state, jnp.asarray(cases.pixels_of(name)))


def their_patches(name):
    """Every position through PyTorch's projections, from the hidden vectors it computes."""
    torch = pytest.importorskip("torch")
    pixels = torch.tensor(cases.pixels_of(name)).permute(0, 3, 1, 2)
    seen = []

    def keep(module, given, found):
        del module, given
        seen.append(found)

    with torch.no_grad():
        if name in cases.HF_CASES:
            model = torch_clips.hf_model(name)
            hidden = model.vision_model(pixels).last_hidden_state[:, 1:]
            return model.visual_projection(model.vision_model.post_layernorm(hidden)).numpy()
        if name in cases.SIGLIP_CASES:  # the pooling, shown one patch at a time
            vision = torch_clips.hf_model(name).vision_model
            hidden = vision(pixels).last_hidden_state
            each = [vision.head(hidden[:, i : i + 1]) for i in range(hidden.shape[1])]
            return torch.stack(each, 1).numpy()
        visual = torch_clips.open_clip_model(name).visual
        if name == "open_clip_vit":
            visual.transformer.register_forward_hook(keep)
            visual(pixels)
            return (visual.ln_post(seen[0][:, 1:]) @ visual.proj).numpy()
        visual.layer4.register_forward_hook(keep)
        visual(pixels)
        pool, positions = visual.attnpool, seen[0].flatten(2).permute(0, 2, 1)
        return pool.c_proj(pool.v_proj(positions + pool.positional_embedding[1:])).numpy()


def test_the_image_feature_is_the_usual_one(encoded):
    name, whole, _ = encoded
    graphdef, state = cases.model_of(name)
    usual = cases.encode_image(graphdef, state, cases.pixels_of(name))
    assert cases.relative_error(whole, usual) <= cases.TOLERANCE


def test_patches_equal_pytorch(encoded):
    name, _, patches = encoded
    assert cases.relative_error(patches, their_patches(name)) <= cases.TOLERANCE


def test_a_map_of_equal_positions_is_each_of_them():
    """Where all positions agree, attention cannot matter: the whole is any of the parts."""
    from flax import nnx

    graphdef, state = cases.model_of("open_clip_rn")
    pool = nnx.merge(graphdef, jax.tree.map(jnp.copy, state)).vision.attnpool
    pool.position_embedding[...] = jnp.zeros_like(pool.position_embedding[...])
    one = np.random.default_rng(0).normal(size=pool.v_proj.kernel.shape[0]).astype(np.float32)
    grid = int((pool.position_embedding.shape[0] - 1) ** 0.5)
    x = jnp.broadcast_to(jnp.asarray(one), (2, grid, grid, len(one)))
    parts = pool.every_position(x)
    np.testing.assert_allclose(parts, jnp.broadcast_to(pool(x)[:, None], parts.shape), rtol=1e-4)
