"""Tell the layouts of a model folder apart, and choose among the weights it holds."""

from collections.abc import Collection
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from fsclip_jax.clip.families import described_in
from fsclip_jax.clip.family import LayoutName
from fsclip_jax.clip.files import read_json
from fsclip_jax.errors import UserError

HF_CONFIG, OPEN_CLIP_CONFIG = "config.json", "open_clip_config.json"
_HF_FIELDS = {
    "text_config",
    "vision_config",
    "text_config_dict",
    "vision_config_dict",
    "projection_dim",
}


class Weights(NamedTuple):
    """A weights file of a folder, or the index of its shards, and how its keys are named."""

    layout: LayoutName
    name: str


PREFERENCE = (
    Weights("hf", "model.safetensors"),
    Weights("hf", "model.safetensors.index.json"),
    Weights("open_clip", "open_clip_model.safetensors"),
    Weights("hf", "flax_model.msgpack"),
    Weights("hf", "pytorch_model.bin"),
    Weights("hf", "pytorch_model.bin.index.json"),
    Weights("open_clip", "open_clip_pytorch_model.bin"),
)
"""Weights files that are looked for, the best first: tensors alone before pickles of tensors."""


def is_hf_config(values: dict[str, Any]) -> bool:
    """Whether a config.json is of one of the families in transformers, and not timm's, say."""
    told = "model_type" in values or not _HF_FIELDS.isdisjoint(values)
    return told and described_in("hf", values) is not None


def layouts_of(folder: Path) -> set[LayoutName]:
    """Say in which layouts a folder describes a CLIP; it may do so in both."""
    layouts: set[LayoutName] = set()
    hf = folder / HF_CONFIG
    if hf.is_file() and is_hf_config(read_json(hf)):
        layouts.add("hf")
    if (folder / OPEN_CLIP_CONFIG).is_file():
        layouts.add("open_clip")
    return layouts


def choose_weights(names: Collection[str], layouts: set[LayoutName]) -> Weights | None:
    """Choose the weights of a folder by the names of its files.

    Example:
        >>> choose_weights(["model.safetensors", "open_clip_model.safetensors"], {"open_clip"})
        Weights(layout='open_clip', name='open_clip_model.safetensors')
    """
    return next((w for w in PREFERENCE if w.layout in layouts and w.name in names), None)


def wanted_weights(names: Collection[str], layouts: set[LayoutName], source: str) -> list[str]:
    """List the files of a repository's weights in its best form: one, or an index and its shards.

    Raises:
        UserError: it describes no CLIP, or has no weights in a form that is read.
    """
    if not layouts:
        raise UserError(
            f"{source!r} is no CLIP: it has no {HF_CONFIG} of one, and no {OPEN_CLIP_CONFIG}"
        )
    chosen = choose_weights(names, layouts)
    if chosen is None:
        wanted = [weights.name for weights in PREFERENCE if weights.layout in layouts]
        raise UserError(f"{source!r} has no weights that are read here: {', '.join(wanted)}")
    if not chosen.name.endswith(".index.json"):
        return [chosen.name]
    stem, _, ending = chosen.name.removesuffix(".index.json").rpartition(".")
    return [chosen.name, *(name for name in names if fnmatch(name, f"{stem}-*.{ending}"))]
