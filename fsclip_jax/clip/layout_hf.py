"""Hugging Face's layout: config.json and preprocessor_config.json of a CLIP."""

from collections.abc import Mapping
from typing import Any, Literal

from fsclip_jax.clip.config import ClipConfig, ResNetConfig, TextConfig, VitConfig
from fsclip_jax.clip.config_fields import (
    CLIP_PREPROCESSING,
    activation_name,
    activation_of,
    build_config,
    square_side,
    three_numbers,
)
from fsclip_jax.clip.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess
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

# Besides the default's own type.
_ACCEPTED_TYPES = {
    "image_size": (list, tuple),
    "patch_size": (list, tuple),
    "layer_norm_eps": (int,),
}

_FILTERS: dict[Any, Literal["bilinear", "bicubic"]] = {2: "bilinear", 3: "bicubic"}
_CLIP_VALUES = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "rescale_factor": 1 / 255,
}

_HINTS = {
    "siglip2": ": NaFlex takes pictures of any shape, which is not built here; take a SigLIP 2 of "
    "fixed resolution, such as google/siglip2-base-patch16-224",
    "metaclip_2": ": its text tower reads another vocabulary; take a MetaCLIP of the first kind, "
    "such as facebook/metaclip-b16-fullcc2.5b",
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
    kind = values.get("model_type", "clip")
    if kind != "clip":
        hint = _HINTS.get(kind, "")
        raise UserError(
            f"the config describes a {kind!r} model; accepted are 'clip' and 'siglip'{hint}"
        )
    vision = tower_fields(values, "vision", _HF_VISION)
    text = tower_fields(values, "text", _HF_TEXT)
    embed_dim = values.get("projection_dim", 512)
    if vision["num_channels"] != 3:
        raise UserError(f"the config has {vision['num_channels']} channels; only 3 are accepted")
    ends = text["eos_token_id"]
    return build_config(
        lambda: ClipConfig(
            vision=VitConfig(
                image_size=square_side(vision["image_size"]),
                patch_size=square_side(vision["patch_size"]),
                embed_dim=embed_dim,
                **tower_shapes(vision),
            ),
            text=TextConfig(
                vocab_size=text["vocab_size"],
                context_length=text["max_position_embeddings"],
                eos_id=None if ends == LARGEST_ID else ends,
                embed_dim=embed_dim,
                **tower_shapes(text),
            ),
            logit_scale_init=values.get("logit_scale_init_value", 2.6592),
        )
    )


def tower_fields(values: Mapping[str, Any], tower: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """Read the fields of one tower, those that are left out with their defaults.

    Args:
        values: content of ``config.json``.
        tower: "vision" or "text".
        defaults: the fields that are read and what transformers takes for them.

    Returns:
        The fields.

    Raises:
        UserError: some have the wrong type; all of them are named.
    """
    old = values.get(f"{tower}_config_dict")
    part = (
        defaults
        | (values.get(f"{tower}_config") or {})
        | (defaults | old if old is not None else {})
    )
    bad = [
        f"{tower}_config.{name}={part[name]!r}"
        for name, default in defaults.items()
        if not isinstance(part[name], (*_ACCEPTED_TYPES.get(name, ()), type(default)))
    ]
    if bad:
        raise UserError(f"config.json has values of the wrong type: {', '.join(bad)}")
    return part


def tower_shapes(tower: Mapping[str, Any]) -> dict[str, Any]:
    """Name the fields that both towers have as our configs do."""
    return {
        "width": tower["hidden_size"],
        "layers": tower["num_hidden_layers"],
        "heads": tower["num_attention_heads"],
        "mlp_width": tower["intermediate_size"],
        "activation": activation_of(tower["hidden_act"]),
        "norm_eps": tower["layer_norm_eps"],
    }


def hf_values(config: ClipConfig) -> dict[str, Any]:
    """Write the shapes as Hugging Face's ``config.json``: the inverse of ``hf_config``.

    Args:
        config: shapes of both towers, the image tower a ViT.

    Returns:
        The content of ``config.json``.

    Raises:
        ValueError: the layout cannot say these shapes.
    """
    vision, text = config.vision, config.text
    if isinstance(vision, ResNetConfig):
        raise ValueError("the Hugging Face layout has no ResNet; save in open_clip layout")
    if not isinstance(vision, VitConfig) or not isinstance(text, TextConfig):
        raise ValueError("SigLIP has a config.json of its own kind")
    if text.eos_id == LARGEST_ID:
        raise ValueError(f"the Hugging Face layout reads eos_id {LARGEST_ID} as the largest id")

    def tower(part: VitConfig | TextConfig) -> dict[str, Any]:
        return {
            "hidden_size": part.width,
            "num_hidden_layers": part.layers,
            "num_attention_heads": part.heads,
            "intermediate_size": part.mlp_width,
            "projection_dim": part.embed_dim,
            "hidden_act": activation_name(part.activation),
            "layer_norm_eps": part.norm_eps,
        }

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


def hf_preprocess(values: Mapping[str, Any], *, siglip: bool = False) -> Preprocess:
    """Read Hugging Face's ``preprocessor_config.json`` of a CLIP.

    Args:
        values: its content.
        siglip: what it leaves out is as ``SiglipImageProcessor`` has it.

    Returns:
        The preprocessing.

    Raises:
        UserError: it asks for something else than the preprocessing of a CLIP; every setting is
            named.
    """
    odd = [
        f"{k}={values[k]!r}"
        for k, wanted in _CLIP_VALUES.items()
        if k in values and not _same(values[k], wanted)
    ]
    given = values.get("size", {"height": 224, "width": 224} if siglip else 224)
    squash = isinstance(given, Mapping) and "shortest_edge" not in given
    size = square_side(given, *(("height", "width") if squash else ("shortest_edge",)))
    crops = values.get("do_center_crop")
    if crops or (crops is None and not squash):
        if size != square_side(values.get("crop_size", size), "height", "width"):
            odd.append(f"size={given!r} with crop_size={values['crop_size']!r}")
    elif not squash:
        odd.append(f"do_center_crop={crops!r}")
    resample = values.get("resample", 3)
    if resample not in _FILTERS:
        odd.append(f"resample={resample!r}")
    if odd:
        raise UserError(f"preprocessor_config.json asks for {', '.join(odd)}; {CLIP_PREPROCESSING}")
    half = (0.5, 0.5, 0.5)
    return Preprocess(
        size,
        three_numbers(values.get("image_mean", half if siglip else OPENAI_MEAN), "image_mean"),
        three_numbers(values.get("image_std", half if siglip else OPENAI_STD), "image_std"),
        fit="squash" if squash else "crop",
        resample=_FILTERS[resample],
    )


def hf_preprocess_values(preprocess: Preprocess, *, siglip: bool = False) -> dict[str, Any]:
    """Write the preprocessing as ``preprocessor_config.json``: the inverse of ``hf_preprocess``."""
    side, crop = preprocess.size, preprocess.fit == "crop"
    square = {"height": side, "width": side}
    return {
        "image_processor_type": "SiglipImageProcessor" if siglip else "CLIPImageProcessor",
        "do_convert_rgb": True,
        **_CLIP_VALUES,
        "resample": next(k for k, name in _FILTERS.items() if name == preprocess.resample),
        "do_center_crop": crop,
        "size": {"shortest_edge": side} if crop else square,
        **({"crop_size": square} if crop else {}),
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }


def _same(given: Any, wanted: Any) -> bool:
    if isinstance(wanted, float):
        return isinstance(given, int | float) and abs(given - wanted) < 1e-6
    return bool(given == wanted)
