"""The families of CLIPs that are built here, and which of them a config is of."""

from collections.abc import Mapping
from typing import Any

from fsclip_jax.clip.clip_resnet import CLIP_RESNET
from fsclip_jax.clip.clip_vit import CLIP_VIT, CLIP_VIT_ALONE
from fsclip_jax.clip.config import ClipConfig
from fsclip_jax.clip.dinov2 import DINOV2
from fsclip_jax.clip.family import Family, FileLayout, LayoutName, TextSide
from fsclip_jax.clip.layout_hf import HINTS
from fsclip_jax.clip.siglip import SIGLIP, SIGLIP_ALONE
from fsclip_jax.errors import UserError

FAMILIES: tuple[Family, ...] = (
    CLIP_RESNET,
    CLIP_VIT,
    SIGLIP,
    CLIP_VIT_ALONE,
    SIGLIP_ALONE,
    DINOV2,
)
"""Every family, in the order in which a config file is held against them."""

TITLES: dict[LayoutName, str] = {"hf": "Hugging Face", "open_clip": "open_clip"}
"""What errors call the layouts."""


def family_of(config: ClipConfig) -> Family:
    """Find the family that has these two towers together; a ``ValueError`` if none has."""
    for family in FAMILIES:
        text = type(None) if family.text is None else family.text.shapes
        if (family.shapes, text) == (type(config.vision), type(config.text)):
            return family
    towers = f"{type(config.vision).__name__} and {type(config.text).__name__}"
    raise ValueError(f"no family has the towers {towers} together")


def text_side(config: ClipConfig) -> TextSide:
    """Return what the family says of its prompts; a ``ValueError`` without a text tower."""
    family = family_of(config)
    if family.text is None:
        raise ValueError(f"{family.name} has no text tower")
    return family.text


def layout_of(config: ClipConfig, name: LayoutName) -> FileLayout:
    """Return how these towers are written in a layout; a ``ValueError`` if they are not."""
    family = family_of(config)
    if name not in family.layouts:
        others = " or ".join(TITLES[other] for other in family.layouts)
        raise ValueError(
            f"the {TITLES[name]} layout does not know {family.name}; save in {others} layout"
        )
    return family.layouts[name]


def described_in(name: LayoutName, values: Mapping[str, Any]) -> FileLayout | None:
    """Find the family of which a config file is; None if it is of none."""
    for family in FAMILIES:
        layout = family.layouts.get(name)
        if layout is None:
            continue
        by_kind = values.get("model_type") == layout.kind
        if layout.describes(values) if layout.describes else by_kind:
            return layout
    return None


def read_config(name: LayoutName, values: Mapping[str, Any]) -> ClipConfig:
    """Read the shapes of both towers out of a config file: ``config.json``, or a ``model_cfg``.

    Raises:
        UserError: it describes no CLIP that is built here; every option in the way is named.

    Example:
        >>> read_config("hf", {}).vision.patch_size, read_config("hf", {}).text.eos_id
        (32, 49407)
    """
    layout = described_in(name, values)
    if layout is None:
        kind = str(values.get("model_type"))[:40]
        layouts = [family.layouts[name] for family in FAMILIES if name in family.layouts]
        accepted = ", ".join(repr(layout.kind) for layout in layouts)
        raise UserError(
            f"the config describes a {kind!r} model; accepted are {accepted}{HINTS.get(kind, '')}"
        )
    return layout.read(values)
