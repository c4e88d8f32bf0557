"""Small CLIPs for the parity tests: configs, weights and inputs, all from frozen seeds.

The weights come from ``RandomState``, whose stream numpy has promised never to change, so a
golden file only holds what PyTorch made of them.
"""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest

from fsclip_jax.clip import model
from fsclip_jax.clip.families import layout_of, read_config
from fsclip_jax.clip.load import load_clip
from fsclip_jax.clip.weights import expected_shapes, fill_state, leaf_paths
from fsclip_jax.errors import UserError

GOLDEN = Path(__file__).parent.parent / "golden"
TOLERANCE = 1e-5

# One compile a shape: op by op, every test would pay for dozens of small ones.
encode_image = jax.jit(model.encode_image, static_argnums=0)
encode_text = jax.jit(model.encode_text, static_argnums=0)


def _hf(text, vision, dim, **both):
    def tower(width, heads, layers, mlp_width, **rest):
        return {
            "hidden_size": width,
            "num_attention_heads": heads,
            "num_hidden_layers": layers,
            "intermediate_size": mlp_width,
            **both,
            **rest,
        }

    # The ids of start and padding are of no use to the model, but must be in the vocabulary.
    ids = {"vocab_size": 64, "max_position_embeddings": 10, "bos_token_id": 61, "pad_token_id": 63}
    return {
        "model_type": "clip",
        "projection_dim": dim,
        "text_config": tower(*text[:4], **ids, **text[4]),
        "vision_config": tower(*vision[:4], **vision[4]),
    }


HF_CASES = {
    "patch16_quick_largest_id": _hf(
        (24, 3, 2, 40, {"eos_token_id": 2}),
        (30, 5, 2, 64, {"image_size": 32, "patch_size": 16}),
        20,
        hidden_act="quick_gelu",
    ),
    "patch14_gelu_own_eos": _hf(
        (40, 5, 3, 80, {"eos_token_id": 62}),
        (28, 7, 3, 56, {"image_size": 42, "patch_size": 14}),
        16,
        hidden_act="gelu",
    ),
    "patch32_mixed_one_head": _hf(
        (16, 1, 1, 48, {"eos_token_id": 62, "hidden_act": "quick_gelu"}),
        (36, 9, 1, 30, {"image_size": 96, "patch_size": 32, "hidden_act": "gelu"}),
        48,
        layer_norm_eps=1e-3,
    ),
}
OPEN_CLIP_CASES = {
    "open_clip_vit": {
        "embed_dim": 12,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 24,
            "patch_size": 16,
            "head_width": 8,
            "mlp_ratio": 3.0,
        },
        "text_cfg": {"context_length": 10, "vocab_size": 64, "width": 20, "heads": 5, "layers": 2},
    },
    "open_clip_rn": {
        "embed_dim": 12,
        "vision_cfg": {
            "image_size": 64,
            "layers": [2, 1, 1, 2],
            "width": 8,
            "patch_size": None,
            "head_width": 16,
        },
        "text_cfg": {"context_length": 10, "vocab_size": 64, "width": 20, "heads": 5, "layers": 2},
    },
}
SIGLIP_CASES = {
    # An image that its patches do not fill, and the embedding of another width than the text.
    "siglip_patch14": {
        "model_type": "siglip",
        "text_config": {
            "hidden_size": 24,
            "num_attention_heads": 3,
            "num_hidden_layers": 2,
            "intermediate_size": 40,
            "vocab_size": 64,
            "max_position_embeddings": 10,
            "projection_size": 30,
            "pad_token_id": 1,
            "bos_token_id": 61,
            "eos_token_id": 62,
        },
        "vision_config": {
            "hidden_size": 30,
            "num_attention_heads": 5,
            "num_hidden_layers": 2,
            "intermediate_size": 64,
            "image_size": 45,
            "patch_size": 14,
        },
    },
}
CASES = [*HF_CASES, *OPEN_CLIP_CASES, *SIGLIP_CASES]

# Prompts: "!" (id 0) in the middle and right after the start, padding with the largest id and
# with 0, a full row, and an end-of-text token that occurs twice.
IDS = np.array(
    [
        [61, 5, 0, 7, 62, 62, 62, 62, 62, 62],
        [61, 0, 62, 0, 0, 0, 0, 0, 0, 0],
        [61, 1, 2, 3, 4, 5, 6, 7, 8, 62],
        [61, 9, 62, 4, 62, 3, 3, 3, 3, 3],
    ],
    np.int32,
)


def layout_name(name):
    return "open_clip" if name in OPEN_CLIP_CASES else "hf"


def config_of(name):
    return read_config(layout_name(name), (HF_CASES | OPEN_CLIP_CASES | SIGLIP_CASES)[name])


def entries_of(name):
    return entries_in(layout_name(name), config_of(name))


def entries_in(layout, config):
    return layout_of(config, layout).entries(config)


def written_in(layout, config):
    return layout_of(config, layout).write(config)


def ids_of(name):
    # A largest id behind the end-of-text token tells the two conventions apart.
    ids = IDS.copy()
    if getattr(config_of(name).text, "eos_id", None) is not None:
        ids[0, 7] = 63
    return ids


def pixels_of(name):
    size = config_of(name).vision.image_size
    return np.random.RandomState(7).standard_normal((3, size, size, 3)).astype(np.float32)


def tensors_of(name):
    """Weights as the file has them: spread enough that every part of a tower matters."""
    _, abstract = model.abstract_clip(config_of(name))
    shapes = expected_shapes(leaf_paths(abstract), entries_of(name))
    return {key: _tensor(key, shapes[key], i) for i, key in enumerate(sorted(shapes))}


def _tensor(key, shape, seed):
    noise = np.random.RandomState(seed).standard_normal(shape)
    if key.startswith("logit_"):
        return np.full(shape, 3.5 if key == "logit_scale" else -12.5, np.float32)
    if key.endswith("running_var"):
        return np.exp(0.3 * noise).astype(np.float32)
    if len(shape) > 1:
        fan_in = np.prod(shape[1:]) if len(shape) == 4 else max(shape[-1], 1)
        return (noise * (2.0 / fan_in**0.5)).astype(np.float32)
    centre = 1.0 if key.endswith("weight") else 0.0
    return (centre + 0.2 * noise).astype(np.float32)


@functools.cache
def model_of(name):
    graphdef, abstract = model.abstract_clip(config_of(name))
    return graphdef, fill_state(abstract, tensors_of(name), entries_of(name))


def relative_error(ours, theirs):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def refused(spec, *named):
    """Load what cannot be loaded, and return the one line that says so."""
    with pytest.raises(UserError) as caught:
        load_clip(str(spec))
    line = str(caught.value)
    assert "\n" not in line
    for part in named:
        assert part in line
    return line
