"""Hugging Face's layout of a SigLIP: its config.json and the keys of its weights."""

from collections.abc import Mapping
from typing import Any

from fsclip_jax.clip.config import ClipConfig, SiglipTextConfig, SiglipVisionConfig
from fsclip_jax.clip.config_fields import activation_name, build_config, square_side
from fsclip_jax.clip.layout_hf import tower_fields, tower_shapes
from fsclip_jax.clip.weights import Entry
from fsclip_jax.clip.weights_maps import HF_BLOCK, block_entries, linear_entries, norm_entries
from fsclip_jax.errors import UserError

# The values that transformers gives to what a config.json leaves out.
_BOTH = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
_VISION = _BOTH | {
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "vision_use_head": True,
}
_TEXT = _BOTH | {"vocab_size": 32000, "max_position_embeddings": 64}


def siglip_config(values: Mapping[str, Any]) -> ClipConfig:
    """Read Hugging Face's ``config.json`` of a SigLIP, or of a SigLIP 2 of fixed resolution.

    Args:
        values: its content.

    Returns:
        The shapes of both towers.

    Raises:
        UserError: the config is of a kind that is not built here.

    Example:
        >>> config = siglip_config({"model_type": "siglip"})
        >>> config.vision.patch_size, config.text.context_length
        (16, 64)
    """
    vision, text = tower_fields(values, "vision", _VISION), tower_fields(values, "text", _TEXT)
    if vision["num_channels"] != 3:
        raise UserError(f"the config has {vision['num_channels']} channels; only 3 are accepted")
    if not vision["vision_use_head"]:
        raise UserError("the config has vision_use_head=false; only towers with it are accepted")
    embed_dim = (values.get("text_config") or {}).get("projection_size") or text["hidden_size"]
    return build_config(
        lambda: ClipConfig(
            vision=SiglipVisionConfig(
                image_size=square_side(vision["image_size"]),
                patch_size=square_side(vision["patch_size"]),
                **tower_shapes(vision),
            ),
            text=SiglipTextConfig(
                vocab_size=text["vocab_size"],
                context_length=text["max_position_embeddings"],
                embed_dim=embed_dim,
                **tower_shapes(text),
            ),
        )
    )


def siglip_values(config: ClipConfig) -> dict[str, Any]:
    """Write the shapes as Hugging Face's ``config.json``: the inverse of ``siglip_config``.

    Args:
        config: shapes of both towers, which are SigLIP's.

    Returns:
        The content of ``config.json``.
    """
    vision, text = _towers(config)

    def tower(part: SiglipVisionConfig | SiglipTextConfig) -> dict[str, Any]:
        return {
            "hidden_size": part.width,
            "num_hidden_layers": part.layers,
            "num_attention_heads": part.heads,
            "intermediate_size": part.mlp_width,
            "hidden_act": activation_name(part.activation),
            "layer_norm_eps": part.norm_eps,
        }

    return {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "vision_config": tower(vision)
        | {
            "model_type": "siglip_vision_model",
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "num_channels": 3,
        },
        "text_config": tower(text)
        | {
            "model_type": "siglip_text_model",
            "vocab_size": text.vocab_size,
            "max_position_embeddings": text.context_length,
            "projection_size": text.embed_dim,
        },
    }


def siglip_map(config: ClipConfig) -> tuple[Entry, ...]:
    """Map of Hugging Face's ``SiglipModel``, as in ``model.safetensors``.

    Args:
        config: shapes of the towers, which are SigLIP's.

    Returns:
        One entry a leaf.
    """
    vision, text = _towers(config)
    seen, head = "vision_model.embeddings", "vision_model.head"
    entries = [
        Entry("logit_scale", "logit_scale", "squeezed"),
        Entry("logit_bias", "logit_bias", "squeezed"),
        Entry("text.token_embedding", "text_model.embeddings.token_embedding.weight"),
        Entry("text.position_embedding", "text_model.embeddings.position_embedding.weight"),
        *norm_entries("text.final_norm", "text_model.final_layer_norm"),
        *linear_entries("text.projection", "text_model.head"),
        Entry("vision.patch_embedding.kernel", f"{seen}.patch_embedding.weight", "patch"),
        Entry("vision.patch_embedding.bias", f"{seen}.patch_embedding.bias"),
        Entry("vision.position_embedding", f"{seen}.position_embedding.weight"),
        *norm_entries("vision.post_norm", "vision_model.post_layernorm"),
        Entry("vision.head.probe", f"{head}.probe", "squeezed"),
        *linear_entries("vision.head.attention.out_proj", f"{head}.attention.out_proj"),
        *norm_entries("vision.head.norm", f"{head}.layernorm"),
        *linear_entries("vision.head.fc1", f"{head}.mlp.fc1"),
        *linear_entries("vision.head.fc2", f"{head}.mlp.fc2"),
    ]
    for part, name in enumerate(("q_proj", "k_proj", "v_proj")):
        ours, theirs = f"vision.head.attention.{name}", f"{head}.attention.in_proj"
        entries += [
            Entry(f"{ours}.kernel", f"{theirs}_weight", "transposed", (part, 3)),
            Entry(f"{ours}.bias", f"{theirs}_bias", "same", (part, 3)),
        ]
    for tower, layers in (("text", text.layers), ("vision", vision.layers)):
        for i in range(layers):
            key = f"{tower}_model.encoder.layers.{i}"
            entries += block_entries(f"{tower}.blocks.{i}", key, HF_BLOCK)
    return tuple(entries)


def _towers(config: ClipConfig) -> tuple[SiglipVisionConfig, SiglipTextConfig]:
    vision, text = config.vision, config.text
    if not isinstance(vision, SiglipVisionConfig) or not isinstance(text, SiglipTextConfig):
        raise ValueError("the towers are not SigLIP's")
    return vision, text
