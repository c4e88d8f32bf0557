"""The value path equals the same computation by hand on transformers' vision tower."""

import jax.numpy as jnp
import numpy as np
import pytest

from fsclip_jax.clip.clip_vit import hf_map
from fsclip_jax.clip.families import read_config
from fsclip_jax.clip.model import abstract_clip
from fsclip_jax.clip.weights import fill_state
from fsclip_jax.clip.weights_maps import IGNORABLE
from fsclip_jax.segmentation.values import value_features

CONFIG = {
    "text_config": {
        "vocab_size": 99,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 8,
        "eos_token_id": 98,
        "bos_token_id": 97,
        "pad_token_id": 98,
    },
    "vision_config": {
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 48,
        "patch_size": 16,
    },
    "projection_dim": 24,
}


@pytest.fixture(scope="module")
def model():
    torch = pytest.importorskip("torch")
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig.from_dict(CONFIG)).eval()
    with torch.no_grad():  # fresh norms and biases would hide a missing one
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


def by_hand(model, pixels):
    """Plain matrix products on the last block's input, which the tower itself reports."""
    import torch
    from torch.nn.functional import layer_norm, linear

    def norm(x, weights):
        return layer_norm(x, x.shape[-1:], weights.weight, weights.bias, 1e-5)

    with torch.no_grad():
        vision = model.vision_model
        seen = vision(torch.tensor(pixels).permute(0, 3, 1, 2), output_hidden_states=True)
        last = vision.encoder.layers[-1]
        x = norm(seen.hidden_states[-2][:, 1:], last.layer_norm1)
        x = linear(x, last.self_attn.v_proj.weight, last.self_attn.v_proj.bias)
        x = linear(x, last.self_attn.out_proj.weight, last.self_attn.out_proj.bias)
        return (norm(x, vision.post_layernorm) @ model.visual_projection.weight.T).numpy()


def test_equals_transformers(model):
    config = read_config("hf", model.config.to_dict())
    graphdef, abstract = abstract_clip(config)
    tensors = {name: value.numpy() for name, value in model.state_dict().items()}
    state = fill_state(abstract, tensors, hf_map(config), ignorable=IGNORABLE)
    pixels = np.random.default_rng(0).standard_normal((3, 48, 48, 3)).astype(np.float32)
    ours = np.asarray(value_features(graphdef, state, jnp.asarray(pixels)))
    theirs = by_hand(model, pixels)
    assert ours.shape == theirs.shape == (3, 9, 24)
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
