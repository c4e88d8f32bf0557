"""open_clip's layout: open_clip_config.json with its model_cfg and preprocess_cfg."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from fsclip_jax.clip.config import Activation, ClipConfig, TextConfig
from fsclip_jax.clip.config_fields import (
    CLIP_PREPROCESSING,
    build_config,
    require_sizes,
    short,
    square_side,
    three_divisors,
    three_numbers,
)
from fsclip_jax.clip.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess
from fsclip_jax.clip.tokenizer import CLEANINGS
from fsclip_jax.errors import UserError

# What open_clip's options must be for its towers to be plain CLIP. An option may be absent.
_OFF = (
    *("attentional_pool", "no_ln_pre", "final_ln_after_pool", "qk_norm", "scaled_cosine_attn"),
    *("scale_heads", "scale_attn_inner", "scale_attn", "scale_fc", "embed_cls", "no_causal_mask"),
    "proj_bias",
)
_PLAIN: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(_OFF, (False,)),
    **dict.fromkeys(("ls_init_value", "timm_model_name", "hf_model_name"), (None,)),
    **dict.fromkeys(("act_kwargs", "norm_kwargs"), (None, {})),
    "tokenizer_kwargs": (None, {}, *({"clean": name} for name in CLEANINGS)),
    "tokenizer_mode": (None,),
    "pos_embed_type": ("learnable",),
    "proj_type": ("linear",),
    "block_type": (None, "default"),
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
_TEXT_SIZES = ("context_length", "vocab_size", "width", "heads", "layers", "eos_id")
_KNOWN_MODEL = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale"}
_KNOWN_MODEL |= {"custom_text", "multimodal_cfg", "init_logit_bias", "cast_dtype", "output_dict"}

_SIGLIP_HINT = "; SigLIP loads in Hugging Face layout, such as google/siglip-base-patch16-224"
_PREPROCESS = {
    "interpolation": ("bicubic", "bilinear"),
    "resize_mode": ("shortest", "squash"),
    "mode": ("RGB",),
}


def open_clip_config(
    values: Mapping[str, Any], vision_of: Callable[[Mapping[str, Any], int, int, Activation], Any]
) -> ClipConfig:
    """Read the ``model_cfg`` of open_clip's ``open_clip_config.json``.

    A family builds its image tower of the ``vision_cfg``, the size of images, the width of the
    embedding and the activation.

    Raises:
        UserError: the config asks for a tower that is not plain CLIP; it names every option.
    """
    vision, text = (values.get(name, {}) for name in ("vision_cfg", "text_cfg"))
    if not isinstance(vision, Mapping) or not isinstance(text, Mapping):
        raise UserError("the open_clip config has a vision_cfg or text_cfg that is no object")
    _require_plain(values, vision, text)
    require_sizes(values, ["embed_dim"])
    require_sizes(vision, ["width", "head_width"], "vision_cfg.")
    require_sizes(text, _TEXT_SIZES, "text_cfg.")
    activation: Activation = "quick_gelu" if values.get("quick_gelu") else "gelu"

    def build() -> ClipConfig:
        width, dim = text.get("width", 512), values["embed_dim"]
        image_size = square_side(vision.get("image_size", 224))
        return ClipConfig(
            vision=vision_of(vision, image_size, dim, activation),
            text=TextConfig(
                vocab_size=text.get("vocab_size", 49408),
                context_length=text.get("context_length", 77),
                width=width,
                layers=text.get("layers", 12),
                heads=text.get("heads", 8),
                mlp_width=mlp_width(text, width),
                embed_dim=dim,
                activation=activation,
                eos_id=text.get("eos_id", 2) if text.get("pool_type") == "eos" else None,
            ),
        )

    return build_config(build)


def _require_plain(
    values: Mapping[str, Any], vision: Mapping[str, Any], text: Mapping[str, Any]
) -> None:
    odd = []
    for name, part in (("vision_cfg", vision), ("text_cfg", text)):
        for option, value in part.items():
            # What open_clip itself does not know it refuses too: a tower may differ by it.
            accepted = _PLAIN.get(option, (value,) if option in _KNOWN[name] else ())
            if value not in accepted:
                odd.append(f"{name}.{option}={short(value)}")
    odd += [f"{k}={short(values[k])}" for k in values if k not in _KNOWN_MODEL]
    if values.get("multimodal_cfg"):
        odd.append(f"multimodal_cfg={short(values['multimodal_cfg'])}")
    if vision.get("pool_type", "tok") != "tok":
        odd.append(f"vision_cfg.pool_type={short(vision['pool_type'])}")
    if text.get("pool_type", "argmax") not in ("argmax", "eos"):
        odd.append(f"text_cfg.pool_type={short(text['pool_type'])}")
    if odd:
        hint = _SIGLIP_HINT if any("siglip" in option for option in odd) else ""
        raise UserError(
            f"the open_clip config asks for {', '.join(odd)}; only plain CLIP towers are accepted"
            f"{hint}"
        )


def open_clip_values(
    config: ClipConfig, vision_cfg: Mapping[str, Any], norm_eps: float = 1e-5
) -> dict[str, Any]:
    """Write the shapes as open_clip's ``model_cfg``: the inverse of ``open_clip_config``.

    Raises:
        ValueError: open_clip cannot say these shapes, for a norm's epsilon is not 1e-5.
    """
    vision, text = config.vision, config.text
    if {norm_eps, text.norm_eps} != {1e-5}:
        raise ValueError("the open_clip layout has no epsilon but 1e-5")
    ends = {} if text.eos_id is None else {"pool_type": "eos", "eos_id": text.eos_id}
    return {
        "embed_dim": config.embed_dim,
        "quick_gelu": text.activation == "quick_gelu",
        "vision_cfg": {"image_size": vision.image_size, "width": vision.width, **vision_cfg},
        "text_cfg": {
            "context_length": text.context_length,
            "vocab_size": text.vocab_size,
            "width": text.width,
            "heads": text.heads,
            "layers": text.layers,
            "mlp_ratio": mlp_ratio(text),
            **ends,
        },
    }


def mlp_width(values: Mapping[str, Any], width: int) -> int:
    """Read the width of a perceptron, which open_clip truncates; a ``UserError`` at an odd one."""
    ratio = values.get("mlp_ratio", 4.0)
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 1000:
        raise UserError(f"the config has mlp_ratio={short(ratio)}; accepted is up to 1000")
    return int(width * ratio)


def mlp_ratio(part: Any) -> float:
    """Write a perceptron's width as open_clip does, which truncates ``width * ratio``."""
    # Rounding must not lose a channel.
    ratio = part.mlp_width / part.width
    return ratio if int(part.width * ratio) == part.mlp_width else math.nextafter(ratio, math.inf)


def open_clip_preprocess(values: Any, size: int) -> Preprocess:
    """Read the ``preprocess_cfg`` of open_clip's ``open_clip_config.json``, which may be empty.

    Raises:
        UserError: it asks for something else than CLIP's preprocessing; every setting is named.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"open_clip_config.json has preprocess_cfg={short(values)}; give an object")
    odd = [
        f"{key}={short(values[key])}"
        for key, accepted in _PREPROCESS.items()
        if values.get(key, accepted[0]) not in accepted
    ]
    if square_side(values.get("size", size)) != size:
        odd.append(f"size={short(values['size'])} with an image tower of {size}")
    if odd:
        raise UserError(f"open_clip_config.json asks for {', '.join(odd)}; {CLIP_PREPROCESSING}")
    return Preprocess(
        size,
        three_numbers(values.get("mean", OPENAI_MEAN), "mean"),
        three_divisors(values.get("std", OPENAI_STD), "std"),
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
