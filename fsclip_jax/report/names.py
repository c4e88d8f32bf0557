"""What pages call methods and data: JSON and ``--methods`` keep the ids."""

import re
from collections.abc import Mapping
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

METHOD_TITLES: Mapping[str, str] = MappingProxyType(
    {
        "zero_shot": "Zero-shot",
        "tip_adapter": "Tip-Adapter",
        "tip_x": "Tip-X",
        "ape": "APE",
        "gda": "GDA",
        "proker": "ProKeR",
        "timo": "TIMO",
        "ss_text_plus": "SS-Text+",
        "tip_adapter_f": "Tip-Adapter-F",
        "clip_adapter": "CLIP-Adapter",
        "taskres": "TaskRes",
        "cross_modal": "Cross-modal probe",
        "lp_plus_plus": "LP++",
        "clap": "CLAP",
        "ape_t": "APE-T",
        "prolip": "ProLIP",
        "transclip": "TransCLIP",
        "stata": "StatA",
        "tda": "TDA",
        "coop": "CoOp",
        "cocoop": "CoCoOp",
        "clip_lora": "CLIP-LoRA",
        "meta_adapter": "Meta-Adapter",
        "attn_adapter": "Attn-Adapter",
        "meta_prior": "Meta-Prior",
        "meta_probe": "Meta-Probe",
    }
)
"""Methods whose name is not the words of their id."""

REFINEMENTS = ("transclip", "stata", "tda")
"""What refines answers of methods."""

REFINED = "+"
"""Between the ids of a method and of what refined its answers by the other queries."""

VARIANTS = {"_untrained": ", untrained", "_as_published": ", as published"}
"""Endings of the ids of variants."""


def method_of(method: str) -> tuple[str, str]:
    """Return the method that a variant is of, and the ending that says how; empty for none.

    Example:
        >>> method_of("meta_adapter_untrained"), method_of("gda")
        (('meta_adapter', '_untrained'), ('gda', ''))
    """
    for ending in VARIANTS:
        if method.endswith(ending) and method != ending:
            return method.removesuffix(ending), ending
    return method, ""


def method_title(method: str) -> str:
    """Return what a reader calls a method.

    Example:
        >>> [method_title(m) for m in ("tip_adapter_f", "meta_adapter_untrained", "nearest_shot")]
        ['Tip-Adapter-F', 'Meta-Adapter, untrained', 'Nearest shot']
        >>> method_title("zero_shot+tda")
        'Zero-shot + TDA (saw the queries)'
    """
    alone, _, by = method.partition(REFINED)
    if by in REFINEMENTS:
        return f"{method_title(alone)} + {METHOD_TITLES[by]} (saw the queries)"
    base, ending = method_of(method)
    if ending:
        return method_title(base) + VARIANTS[ending]
    if title := METHOD_TITLES.get(method):
        return title
    is_id = re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", method)
    return (method[0].upper() + method[1:]).replace("_", " ") if is_id else method


def spec_title(spec: str) -> str:
    """Return what a reader calls data of no published name.

    Example:
        >>> [spec_title(s) for s in ("emoji:food", "folder:photos/holiday", "bank:banks/pets/")]
        ['Emoji: food', 'holiday', 'pets']
    """
    kind, colon, rest = spec.partition(":")
    if kind == "emoji":
        return f"Emoji: {rest}" if rest else "Emoji"
    if not colon or not rest:
        return spec
    if kind in ("folder", "bank"):
        return PurePath(rest).name or rest
    if kind in ("coop", "tfds", "hf"):
        return rest.partition("@")[0].strip("/").rpartition("/")[2] or rest
    return spec


def data_title(data: Mapping[str, Any]) -> str:
    """Return what a reader calls data that a report or a suite describes: without its classes."""
    spec, title = str(data.get("spec") or ""), data.get("title")
    return str(title) if title and title != spec else spec_title(spec)


def counted_title(data: Mapping[str, Any], name: str = "") -> str:
    """Return the title of data with the number of its classes; ``name`` where it has no spec.

    Example:
        >>> counted_title({"spec": "emoji", "n_classes": 627})
        'Emoji, 627 classes'
    """
    title, count = data_title(data) or name, data.get("n_classes")
    return title if count is None else f"{title}, {count:,} class{'' if count == 1 else 'es'}"
