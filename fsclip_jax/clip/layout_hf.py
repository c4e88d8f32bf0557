"""Hugging Face's layout: what config.json and preprocessor_config.json say of any family."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fsclip_jax.clip.config_fields import (
    CLIP_PREPROCESSING,
    activation_name,
    activation_of,
    require_sizes,
    short,
    square_side,
    three_divisors,
    three_numbers,
)
from fsclip_jax.clip.files import read_json
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.errors import UserError

_OTHER = ": features that it computed elsewhere can be given to `fsclip bank import`"
HINTS = dict.fromkeys(("vit", "dinov3_vit", "dinov3_convnext", "convnextv2", "resnet"), _OTHER) | {
    "siglip2": ": NaFlex takes pictures of any shape, which is not built here; take a SigLIP 2 of "
    "fixed resolution, such as google/siglip2-base-patch16-224",
}
"""What to take in place of a model of a kind that is not built here."""

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


def tower_fields(values: Mapping[str, Any], tower: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """Read the fields of one tower, "vision" or "text", out of a ``config.json``.

    A value that is left out is the library's default; one in ``text_config_dict`` or
    ``vision_config_dict``, as old files have them, goes before ``text_config`` and
    ``vision_config``.

    Raises:
        UserError: some have the wrong type, and all of them are named; or images are not of three
            channels.
    """
    new, old = values.get(f"{tower}_config") or {}, values.get(f"{tower}_config_dict")
    if not isinstance(new, Mapping) or not isinstance(old, Mapping | None):
        raise UserError(f"config.json has a {tower}_config that is no object; take the model's own")
    part = {**defaults, **new, **({} if old is None else {**defaults, **old})}
    bad = [
        f"{tower}_config.{name}={short(part[name])}"
        for name, default in defaults.items()
        if not isinstance(part[name], (*_ACCEPTED_TYPES.get(name, ()), type(default)))
        or (name == "layer_norm_eps" and not 0 <= part[name] < 1)
        or (isinstance(part[name], bool) and not isinstance(default, bool))
    ]
    if bad:
        raise UserError(f"config.json has values of the wrong type: {', '.join(bad)}")
    whole = [name for name, default in defaults.items() if type(default) is int]
    sides = ("image_size", "patch_size")
    require_sizes(part, [name for name in whole if name not in sides], f"{tower}_config.")
    if part.get("num_channels", 3) != 3:
        raise UserError(f"the config has {part['num_channels']} channels; only 3 are accepted")
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


def tower_values(part: Any) -> dict[str, Any]:
    """Name the fields that both towers have as Hugging Face does: undo ``tower_shapes``."""
    return {
        "hidden_size": part.width,
        "num_hidden_layers": part.layers,
        "num_attention_heads": part.heads,
        "intermediate_size": part.mlp_width,
        "hidden_act": activation_name(part.activation),
        "layer_norm_eps": part.norm_eps,
    }


def patch_shapes(vision: Mapping[str, Any]) -> dict[str, Any]:
    """Name the sides of images and patches as our configs do."""
    return {name: square_side(vision[name]) for name in ("image_size", "patch_size")}


def patch_values(part: Any) -> dict[str, int]:
    """Write the sides of images and patches: undo ``patch_shapes``."""
    return {"image_size": part.image_size, "patch_size": part.patch_size, "num_channels": 3}


def image_values(folder: Path) -> dict[str, Any]:
    """Read the settings of a folder's images; a ``UserError`` if it has none."""
    path = folder / "preprocessor_config.json"
    if path.is_file():
        return read_json(path)
    # Newer releases of transformers save the settings of all processors in one file.
    path = folder / "processor_config.json"
    if path.is_file() and isinstance(values := read_json(path).get("image_processor"), dict):
        return values
    raise UserError(
        f"{folder} has no preprocessor_config.json, which holds the image mean and standard "
        "deviation; take it from the model's repository"
    )


def hf_preprocess(values: Mapping[str, Any], default: Preprocess | None = None) -> Preprocess:
    """Read a ``preprocessor_config.json``; what it leaves out is as in the family's default.

    Raises:
        UserError: it asks for something else than the preprocessing of a CLIP; every setting is
            named.
    """
    default = default or Preprocess(224)
    odd = [
        f"{k}={short(values[k])}"
        for k, wanted in _CLIP_VALUES.items()
        if k in values and not _same(values[k], wanted)
    ]
    whole = {"height": default.size, "width": default.size}
    edge = default.edge or default.size
    given = values.get("size", edge if default.fit == "crop" else whole)
    squash = isinstance(given, Mapping) and "shortest_edge" not in given
    size = square_side(given, *(("height", "width") if squash else ("shortest_edge",)))
    crops = values.get("do_center_crop")
    if crops or (crops is None and not squash):
        crop = values.get("crop_size", default.size if default.edge else size)
        edge, size = size, square_side(crop, "height", "width")
        if edge < size:
            odd.append(f"size={short(given)} with crop_size={short(crop)}")
    elif not squash:
        odd.append(f"do_center_crop={short(crops)}")
    resample = values.get("resample", 3)
    if type(resample) is not int or resample not in _FILTERS:
        odd.append(f"resample={short(resample)}")
    if odd:
        raise UserError(f"preprocessor_config.json asks for {', '.join(odd)}; {CLIP_PREPROCESSING}")
    return Preprocess(
        size,
        three_numbers(values.get("image_mean", default.mean), "image_mean"),
        three_divisors(values.get("image_std", default.std), "image_std"),
        fit="squash" if squash else "crop",
        resample=_FILTERS[resample],
        edge=None if squash or edge == size else edge,
    )


def hf_preprocess_values(
    preprocess: Preprocess, processor: str = "CLIPImageProcessor"
) -> dict[str, Any]:
    """Write the preprocessing as ``preprocessor_config.json``: the inverse of ``hf_preprocess``."""
    side, crop = preprocess.size, preprocess.fit == "crop"
    square = {"height": side, "width": side}
    return {
        "image_processor_type": processor,
        "do_convert_rgb": True,
        **_CLIP_VALUES,
        "resample": next(k for k, name in _FILTERS.items() if name == preprocess.resample),
        "do_center_crop": crop,
        "size": {"shortest_edge": preprocess.edge or side} if crop else square,
        **({"crop_size": square} if crop else {}),
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }


def _same(given: Any, wanted: Any) -> bool:
    if isinstance(wanted, float):
        return isinstance(given, int | float) and abs(given) < 2 and abs(given - wanted) < 1e-6
    return bool(given == wanted)
