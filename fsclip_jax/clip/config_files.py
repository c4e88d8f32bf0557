"""Read and write the config files of the two layouts that CLIP weights come in."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from fsclip_jax.clip.config import Activation, ClipConfig, ResNetConfig, TextConfig, VitConfig
from fsclip_jax.errors import UserError

LARGEST_ID = 2
"""Hugging Face's ``eos_token_id`` that stands for OpenAI's rule, the largest id ends a prompt."""

# The values that transformers gives to what a config.json leaves out.
_HF_BOTH = {"num_hidden_layers": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_HF_VISION = _HF_BOTH | {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
}
_HF_TEXT = _HF_BOTH | {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}

# What open_clip's options must be for its towers to be plain CLIP. An option may be absent.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "ls_init_value": (None,),
    "attentional_pool": (False,),
    "no_ln_pre": (False,),
    "pos_embed_type": ("learnable",),
    "final_ln_after_pool": (False,),
    "act_kwargs": (None, {}),
    "norm_kwargs": (None, {}),
    "block_type": (None, "default"),
    "qk_norm": (False,),
    "scaled_cosine_attn": (False,),
    "scale_heads": (False,),
    "scale_attn_inner": (False,),
    "scale_attn": (False,),
    "scale_fc": (False,),
    "timm_model_name": (None,),
    "hf_model_name": (None,),
    "embed_cls": (False,),
    "no_causal_mask": (False,),
    "proj_bias": (False,),
    "proj_type": ("linear",),
}


def hf_config(values: Mapping[str, Any]) -> ClipConfig:
    """Read Hugging Face's ``config.json`` of a CLIP.

    A value that is left out is the library's default; one in ``text_config_dict`` or
    ``vision_config_dict``, as old files have them, goes before ``text_config`` and
    ``vision_config``.

    Args:
        values: its content.

    Returns:
        The shapes of both towers.

    Raises:
        UserError: the config is not a CLIP's, or of a kind that is not built here.

    Example:
        >>> hf_config({}).vision.patch_size, hf_config({}).text.eos_id
        (32, 49407)
    """
    if values.get("model_type", "clip") != "clip":
        raise UserError(
            f"the config describes a {values['model_type']!r} model; only 'clip' is accepted"
        )
    vision = _hf_tower(values, "vision", _HF_VISION)
    text = _hf_tower(values, "text", _HF_TEXT)
    embed_dim = values.get("projection_dim", 512)
    if vision["num_channels"] != 3:
        raise UserError(f"the config has {vision['num_channels']} channels; only 3 are accepted")
    ends = text["eos_token_id"]
    return _build(
        lambda: ClipConfig(
            vision=VitConfig(
                image_size=_square(vision["image_size"]),
                patch_size=_square(vision["patch_size"]),
                embed_dim=embed_dim,
                **_hf_shapes(vision),
            ),
            text=TextConfig(
                vocab_size=text["vocab_size"],
                context_length=text["max_position_embeddings"],
                eos_id=None if ends == LARGEST_ID else ends,
                embed_dim=embed_dim,
                **_hf_shapes(text),
            ),
            logit_scale_init=values.get("logit_scale_init_value", 2.6592),
        )
    )


def _hf_tower(values: Mapping[str, Any], tower: str, defaults: dict[str, Any]) -> dict[str, Any]:
    old = values.get(f"{tower}_config_dict")
    return (
        defaults
        | (values.get(f"{tower}_config") or {})
        | (defaults | old if old is not None else {})
    )


def _hf_shapes(tower: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "width": tower["hidden_size"],
        "layers": tower["num_hidden_layers"],
        "heads": tower["num_attention_heads"],
        "mlp_width": tower["intermediate_size"],
        "activation": _activation(tower["hidden_act"]),
        "norm_eps": tower["layer_norm_eps"],
    }


def hf_values(config: ClipConfig) -> dict[str, Any]:
    """Write the shapes as Hugging Face's ``config.json``: the inverse of ``hf_config``.

    Args:
        config: shapes of both towers, the image tower a ViT.

    Returns:
        The content of ``config.json``.
    """
    if isinstance(config.vision, ResNetConfig):
        raise ValueError("the Hugging Face layout has no ResNet; save in open_clip layout")

    def tower(part: VitConfig | TextConfig) -> dict[str, Any]:
        return {
            "hidden_size": part.width,
            "num_hidden_layers": part.layers,
            "num_attention_heads": part.heads,
            "intermediate_size": part.mlp_width,
            "projection_dim": part.embed_dim,
            "hidden_act": part.activation,
            "layer_norm_eps": part.norm_eps,
        }

    vision, text = config.vision, config.text
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": config.logit_scale_init,
        "vision_config": tower(vision)
        | {
            "model_type": "clip_vision_model",
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "num_channels": 3,
        },
        "text_config": tower(text)
        | {
            "model_type": "clip_text_model",
            "vocab_size": text.vocab_size,
            "max_position_embeddings": text.context_length,
            "eos_token_id": LARGEST_ID if text.eos_id is None else text.eos_id,
        },
    }


def open_clip_config(values: Mapping[str, Any]) -> ClipConfig:
    """Read the ``model_cfg`` of open_clip's ``open_clip_config.json``.

    Args:
        values: content of ``model_cfg``.

    Returns:
        The shapes of both towers.

    Raises:
        UserError: the config asks for a tower that is not plain CLIP; it names every option.
    """
    vision, text = dict(values.get("vision_cfg", {})), dict(values.get("text_cfg", {}))
    odd = [
        f"{name}.{option}={part[option]!r}"
        for name, part in (("vision_cfg", vision), ("text_cfg", text))
        for option, accepted in _PLAIN.items()
        if option in part and part[option] not in accepted
    ]
    odd += [f"{k}={values[k]!r}" for k in ("custom_text", "multimodal_cfg") if values.get(k)]
    if vision.get("pool_type", "tok") != "tok":
        odd.append(f"vision_cfg.pool_type={vision['pool_type']!r}")
    if text.get("pool_type", "argmax") not in ("argmax", "eos"):
        odd.append(f"text_cfg.pool_type={text['pool_type']!r}")
    if odd:
        raise UserError(
            f"the open_clip config asks for {', '.join(odd)}; only plain CLIP towers are accepted"
        )
    activation: Activation = "quick_gelu" if values.get("quick_gelu") else "gelu"
    embed_dim, width = values["embed_dim"], text.get("width", 512)
    return _build(
        lambda: ClipConfig(
            vision=_open_clip_vision(vision, embed_dim, activation),
            text=TextConfig(
                vocab_size=text.get("vocab_size", 49408),
                context_length=text.get("context_length", 77),
                width=width,
                layers=text.get("layers", 12),
                heads=text.get("heads", 8),
                mlp_width=int(width * text.get("mlp_ratio", 4.0)),
                embed_dim=embed_dim,
                activation=activation,
                eos_id=text.get("eos_id", 2) if text.get("pool_type") == "eos" else None,
            ),
        )
    )


def _open_clip_vision(
    values: Mapping[str, Any], embed_dim: int, activation: Activation
) -> VitConfig | ResNetConfig:
    layers, width = values.get("layers", 12), values.get("width", 768)
    head_width = values.get("head_width", 64)
    image_size = _square(values.get("image_size", 224))
    if isinstance(layers, list | tuple):
        return ResNetConfig(tuple(layers), width, image_size, embed_dim, width * 32 // head_width)
    return VitConfig(
        image_size=image_size,
        patch_size=_square(values.get("patch_size", 16)),
        width=width,
        layers=layers,
        heads=width // head_width,
        mlp_width=int(width * values.get("mlp_ratio", 4.0)),
        embed_dim=embed_dim,
        activation=activation,
    )


def open_clip_values(config: ClipConfig) -> dict[str, Any]:
    """Write the shapes as open_clip's ``model_cfg``: the inverse of ``open_clip_config``.

    Args:
        config: shapes of both towers.

    Returns:
        The content of ``model_cfg``.

    Raises:
        ValueError: open_clip cannot say these shapes: the towers' activations differ, or a
            norm's epsilon is not 1e-5.
    """
    vision, text = config.vision, config.text
    quick = text.activation == "quick_gelu"
    eps = {text.norm_eps}
    tower: dict[str, Any] = {"image_size": vision.image_size, "width": vision.width}
    if isinstance(vision, ResNetConfig):
        tower |= {
            "layers": list(vision.layers),
            "patch_size": None,
            "head_width": vision.feature_width // vision.heads,
        }
    else:
        eps.add(vision.norm_eps)
        if vision.activation != text.activation:
            raise ValueError("the open_clip layout has one activation for both towers")
        tower |= {
            "layers": vision.layers,
            "patch_size": vision.patch_size,
            "head_width": vision.width // vision.heads,
            "mlp_ratio": _mlp_ratio(vision),
        }
    if eps != {1e-5}:
        raise ValueError("the open_clip layout has no epsilon but 1e-5")
    ends = {} if text.eos_id is None else {"pool_type": "eos", "eos_id": text.eos_id}
    return {
        "embed_dim": config.embed_dim,
        "quick_gelu": quick,
        "vision_cfg": tower,
        "text_cfg": {
            "context_length": text.context_length,
            "vocab_size": text.vocab_size,
            "width": text.width,
            "heads": text.heads,
            "layers": text.layers,
            "mlp_ratio": _mlp_ratio(text),
            **ends,
        },
    }


def _build(make: Callable[[], ClipConfig]) -> ClipConfig:
    try:
        return make()
    except ValueError as error:
        raise UserError(f"the config describes no CLIP that can be built: {error}") from error


def _square(size: int | Sequence[int]) -> int:
    if isinstance(size, int):
        return size
    if len(set(size)) != 1:
        raise UserError(f"the config has sides {list(size)}; only square sizes are accepted")
    return size[0]


def _activation(name: str) -> Activation:
    if name not in get_args(Activation):
        accepted = ", ".join(get_args(Activation))
        raise UserError(f"the config has the activation {name!r}; accepted are {accepted}")
    return name  # type: ignore[return-value]


def _mlp_ratio(part: VitConfig | TextConfig) -> float:
    # open_clip truncates width * ratio: make sure that rounding does not lose a channel.
    ratio = part.mlp_width / part.width
    return ratio if int(part.width * ratio) == part.mlp_width else math.nextafter(ratio, math.inf)
