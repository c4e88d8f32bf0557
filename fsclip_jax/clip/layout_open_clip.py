"""open_clip's layout: open_clip_config.json with its model_cfg and preprocess_cfg."""

import math
from collections.abc import Mapping
from typing import Any

from fsclip_jax.clip.config import (
    Activation,
    ClipConfig,
    ResNetConfig,
    SiglipTextConfig,
    SiglipVisionConfig,
    TextConfig,
    VitConfig,
)
from fsclip_jax.clip.config_fields import (
    CLIP_PREPROCESSING,
    build_config,
    square_side,
    three_numbers,
)
from fsclip_jax.clip.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess
from fsclip_jax.errors import UserError

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
    "tokenizer_kwargs": (None, {}),
    "tokenizer_mode": (None,),
}
# Options that are read, and those that change nothing in a plain tower at inference.
_KNOWN = {
    "vision_cfg": {
        *("layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "pool_type"),
        *("patch_dropout", "attn_pooler_queries", "attn_pooler_heads", "output_tokens"),
        *("timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias"),
        *("timm_drop", "timm_drop_path"),
    },
    "text_cfg": {
        *("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "pool_type"),
        *("eos_id", "pad_id", "output_tokens", "hf_tokenizer_name"),
        *("hf_model_pretrained", "hf_proj_type", "hf_pooler_type"),
    },
}
_KNOWN_MODEL = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale"}
_KNOWN_MODEL |= {"custom_text", "multimodal_cfg", "init_logit_bias", "cast_dtype", "output_dict"}

_SIGLIP_HINT = "; SigLIP loads in Hugging Face layout, such as google/siglip-base-patch16-224"
_PREPROCESS = {
    "interpolation": ("bicubic", "bilinear"),
    "resize_mode": ("shortest", "squash"),
    "mode": ("RGB",),
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
    vision, text = (values.get(name, {}) for name in ("vision_cfg", "text_cfg"))
    if not isinstance(vision, Mapping) or not isinstance(text, Mapping):
        raise UserError("the open_clip config has a vision_cfg or text_cfg that is no object")
    odd = [
        f"{name}.{option}={part[option]!r}"
        for name, part in (("vision_cfg", vision), ("text_cfg", text))
        for option, accepted in _PLAIN.items()
        if option in part and part[option] not in accepted
    ]
    # What open_clip itself does not know it refuses too: a tower may differ by it.
    odd += [
        f"{name}.{option}={part[option]!r}"
        for name, part in (("vision_cfg", vision), ("text_cfg", text))
        for option in part
        if option not in _PLAIN and option not in _KNOWN[name]
    ]
    odd += [f"{k}={values[k]!r}" for k in values if k not in _KNOWN_MODEL]
    plain = ("custom_text", "multimodal_cfg", "init_logit_bias")
    odd += [f"{k}={values[k]!r}" for k in plain if values.get(k)]
    if vision.get("pool_type", "tok") != "tok":
        odd.append(f"vision_cfg.pool_type={vision['pool_type']!r}")
    if text.get("pool_type", "argmax") not in ("argmax", "eos"):
        odd.append(f"text_cfg.pool_type={text['pool_type']!r}")
    if odd:
        hint = _SIGLIP_HINT if any("siglip" in option for option in odd) else ""
        raise UserError(
            f"the open_clip config asks for {', '.join(odd)}; only plain CLIP towers are accepted"
            f"{hint}"
        )
    activation: Activation = "quick_gelu" if values.get("quick_gelu") else "gelu"
    width = text.get("width", 512)
    return build_config(
        lambda: ClipConfig(
            vision=_open_clip_vision(vision, values["embed_dim"], activation),
            text=TextConfig(
                vocab_size=text.get("vocab_size", 49408),
                context_length=text.get("context_length", 77),
                width=width,
                layers=text.get("layers", 12),
                heads=text.get("heads", 8),
                mlp_width=int(width * text.get("mlp_ratio", 4.0)),
                embed_dim=values["embed_dim"],
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
    image_size = square_side(values.get("image_size", 224))
    if isinstance(layers, list | tuple):
        return ResNetConfig(tuple(layers), width, image_size, embed_dim, width * 32 // head_width)
    return VitConfig(
        image_size=image_size,
        patch_size=square_side(values.get("patch_size", 16)),
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
    if isinstance(vision, SiglipVisionConfig) or isinstance(text, SiglipTextConfig):
        raise ValueError("open_clip builds SigLIP of other parts; save in Hugging Face layout")
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


def _mlp_ratio(part: VitConfig | TextConfig) -> float:
    # open_clip truncates width * ratio: make sure that rounding does not lose a channel.
    ratio = part.mlp_width / part.width
    return ratio if int(part.width * ratio) == part.mlp_width else math.nextafter(ratio, math.inf)


def open_clip_preprocess(values: Mapping[str, Any], size: int) -> Preprocess:
    """Read the ``preprocess_cfg`` of open_clip's ``open_clip_config.json``.

    Args:
        values: content of ``preprocess_cfg``, maybe empty.
        size: the image tower's, which counts where the config says nothing.

    Returns:
        The preprocessing.

    Raises:
        UserError: it asks for something else than CLIP's preprocessing; every setting is named.
    """
    odd = [
        f"{key}={values[key]!r}"
        for key, accepted in _PREPROCESS.items()
        if values.get(key, accepted[0]) not in accepted
    ]
    if square_side(values.get("size", size)) != size:
        odd.append(f"size={values['size']!r} with an image tower of {size}")
    if odd:
        raise UserError(f"open_clip_config.json asks for {', '.join(odd)}; {CLIP_PREPROCESSING}")
    return Preprocess(
        size,
        three_numbers(values.get("mean", OPENAI_MEAN), "mean"),
        three_numbers(values.get("std", OPENAI_STD), "std"),
        odd_margin="round",
        fit="squash" if values.get("resize_mode") == "squash" else "crop",
        resample=values.get("interpolation", "bicubic"),
    )


def open_clip_preprocess_values(preprocess: Preprocess) -> dict[str, Any]:
    """Write the preprocessing as ``preprocess_cfg``, as ``open_clip_preprocess`` reads it."""
    return {
        "size": preprocess.size,
        "mode": "RGB",
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "interpolation": preprocess.resample,
        "resize_mode": "squash" if preprocess.fit == "squash" else "shortest",
    }
