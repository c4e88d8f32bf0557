"""The family of CLIPs with a vision transformer: how files say it."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from fsclip_jax.clip.config import Activation, ClipConfig, TextConfig, VitConfig
from fsclip_jax.clip.config_fields import build_config, require_sizes, square_side
from fsclip_jax.clip.family import Family, FileLayout
from fsclip_jax.clip.layout_hf import (
    patch_shapes,
    patch_values,
    tower_fields,
    tower_shapes,
    tower_values,
)
from fsclip_jax.clip.layout_open_clip import (
    mlp_ratio,
    mlp_width,
    open_clip_config,
    open_clip_values,
)
from fsclip_jax.clip.text import CLIP_TEXT
from fsclip_jax.clip.vit import VisionTransformer
from fsclip_jax.clip.weights import Entry
from fsclip_jax.clip.weights_maps import (
    hf_common,
    hf_vision,
    name_tower,
    norm_entries,
    open_clip_blocks,
    open_clip_text,
)

ClipVitConfig: TypeAlias = ClipConfig[VitConfig, TextConfig]
"""Shapes of both towers."""

LARGEST_ID = 2
"""Hugging Face's ``eos_token_id`` that stands for OpenAI's rule, the largest id ends a prompt; but
in MetaCLIP 2, whose towers are else the same, it is an id as any."""
_METACLIP_2 = "metaclip_2"
_ALONE = ("clip_vision_model", f"{_METACLIP_2}_vision_model")

# The values that transformers gives to what a config.json leaves out.
_BOTH = {"num_hidden_layers": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
HF_VISION = _BOTH | {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
}
"""What transformers takes for fields of the image tower that are left out."""
HF_TEXT = _BOTH | {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}
"""The same of the text tower."""


def clip_shapes(
    values: Mapping[str, Any], vision: Mapping[str, Any], text: Mapping[str, Any]
) -> ClipVitConfig:
    """Build the shapes out of a ``config.json`` and the fields of its towers."""
    ends, dim = text["eos_token_id"], values.get("projection_dim", 512)
    require_sizes(values, ["projection_dim"])
    largest = ends == LARGEST_ID and values.get("model_type") != _METACLIP_2
    return build_config(
        lambda: ClipConfig(
            vision=VitConfig(**patch_shapes(vision), embed_dim=dim, **tower_shapes(vision)),
            text=TextConfig(
                vocab_size=text["vocab_size"],
                context_length=text["max_position_embeddings"],
                eos_id=None if largest else ends,
                embed_dim=dim,
                **tower_shapes(text),
            ),
            logit_scale_init=values.get("logit_scale_init_value", 2.6592),
        )
    )


def _is_clip(values: Mapping[str, Any]) -> bool:
    return values.get("model_type", "clip") in ("clip", _METACLIP_2)


def _hf_config(values: Mapping[str, Any]) -> ClipVitConfig:
    vision, text = tower_fields(values, "vision", HF_VISION), tower_fields(values, "text", HF_TEXT)
    return clip_shapes(values, vision, text)


def _hf_values(config: ClipVitConfig) -> dict[str, Any]:
    vision, text, dim = config.vision, config.text, config.embed_dim
    second = text.eos_id == LARGEST_ID
    kind = _METACLIP_2 if second else "clip"
    return {
        "architectures": ["MetaClip2Model" if second else "CLIPModel"],
        "model_type": kind,
        "projection_dim": dim,
        "logit_scale_init_value": config.logit_scale_init,
        "vision_config": _hf_vision_values(vision) | {"model_type": f"{kind}_vision_model"},
        "text_config": tower_values(text)
        | {
            "model_type": f"{kind}_text_model",
            "projection_dim": dim,
            "vocab_size": text.vocab_size,
            "max_position_embeddings": text.context_length,
            "eos_token_id": LARGEST_ID if text.eos_id is None else text.eos_id,
        },
    }


def _hf_vision_values(vision: VitConfig) -> dict[str, Any]:
    return tower_values(vision) | patch_values(vision) | {"projection_dim": vision.embed_dim}


def hf_map(config: ClipVitConfig) -> tuple[Entry, ...]:
    """Map of Hugging Face's ``CLIPModel``, as in ``model.safetensors``: one entry a leaf."""
    return (
        Entry("logit_scale", "logit_scale"),
        Entry("text.projection.kernel", "text_projection.weight", "transposed"),
        *_hf_vision_own(config.vision),
        *hf_common(config),
    )


def _hf_vision_own(vision: VitConfig) -> list[Entry]:
    """Map what the image tower has that SigLIP's has not."""
    entries = [
        Entry("vision.class_embedding", "vision_model.embeddings.class_embedding"),
        *norm_entries("vision.pre_norm", "vision_model.pre_layrnorm"),
    ]
    if vision.projected:
        entries.append(Entry("vision.projection.kernel", "visual_projection.weight", "transposed"))
    return entries


def _open_clip_vision(
    values: Mapping[str, Any], image_size: int, embed_dim: int, activation: Activation
) -> VitConfig:
    require_sizes(values, ["layers"], "vision_cfg.")
    width = values.get("width", 768)
    return VitConfig(
        image_size=image_size,
        patch_size=square_side(values.get("patch_size", 16)),
        width=width,
        layers=values.get("layers", 12),
        heads=width // values.get("head_width", 64),
        mlp_width=mlp_width(values, width),
        embed_dim=embed_dim,
        activation=activation,
    )


def _open_clip_values(config: ClipVitConfig) -> dict[str, Any]:
    vision = config.vision
    if vision.activation != config.text.activation:
        raise ValueError("the open_clip layout has one activation for both towers")
    tower = {
        "layers": vision.layers,
        "patch_size": vision.patch_size,
        "head_width": vision.width // vision.heads,
        "mlp_ratio": mlp_ratio(vision),
    }
    return open_clip_values(config, tower, vision.norm_eps)


def _open_clip_map(config: ClipVitConfig) -> tuple[Entry, ...]:
    return (
        *open_clip_text(config),
        Entry("vision.patch_embedding.kernel", "visual.conv1.weight", "patch"),
        Entry("vision.class_embedding", "visual.class_embedding"),
        Entry("vision.position_embedding", "visual.positional_embedding"),
        *norm_entries("vision.pre_norm", "visual.ln_pre"),
        *norm_entries("vision.post_norm", "visual.ln_post"),
        Entry("vision.projection.kernel", "visual.proj"),
        *open_clip_blocks("vision.blocks", "visual.transformer.resblocks", config.vision.layers),
    )


CLIP_VIT = Family(
    name="a CLIP with a ViT",
    shapes=VitConfig,
    tower=VisionTransformer,
    text=CLIP_TEXT,
    layouts={
        "hf": FileLayout("clip", _hf_config, _hf_values, hf_map, _is_clip, flax=True),
        "open_clip": FileLayout(
            "ViT",
            lambda values: open_clip_config(values, _open_clip_vision),
            _open_clip_values,
            _open_clip_map,
            describes=lambda _: True,
        ),
    },
)
"""OpenAI's, LAION's, MetaCLIP's and DFN's vision transformers."""


def _alone_config(values: Mapping[str, Any]) -> ClipConfig[VitConfig, None]:
    """Read an image tower alone, whose config is that of the tower.

    Its class says whether the projection belongs to it; ``projection_dim`` is there in any case.
    """
    vision = tower_fields({"vision_config": values}, "vision", HF_VISION)
    (name, *_) = values.get("architectures") or ["WithProjection"]
    projected = str(name).endswith("WithProjection")
    dim = values.get("projection_dim", 512) if projected else vision["hidden_size"]
    shapes = patch_shapes(vision) | tower_shapes(vision)
    return build_config(
        lambda: ClipConfig(VitConfig(**shapes, embed_dim=dim, projected=projected), None)
    )


def _alone_values(config: ClipConfig[VitConfig, None]) -> dict[str, Any]:
    vision = config.vision
    name = "CLIPVisionModelWithProjection" if vision.projected else "CLIPVisionModel"
    kind = {"architectures": [name], "model_type": "clip_vision_model"}
    return kind | _hf_vision_values(vision)


CLIP_VIT_ALONE = Family(
    name="a CLIP's ViT alone",
    shapes=VitConfig,
    tower=VisionTransformer,
    text=None,
    layouts={
        "hf": FileLayout(
            "clip_vision_model",
            _alone_config,
            _alone_values,
            lambda config: (*_hf_vision_own(config.vision), *hf_vision(config.vision)),
            lambda values: values.get("model_type") in _ALONE,
            tidy=name_tower,
        )
    },
)
"""The image tower that transformers saves as ``CLIPVisionModel``, with its projection or not."""
