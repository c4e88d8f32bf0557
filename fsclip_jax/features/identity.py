"""All that the content of a bank depends on."""

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np

from fsclip_jax.clip.load import Backbone
from fsclip_jax.data.prompts import ClassPrompts, choose_prompts
from fsclip_jax.data.source import ImageSource
from fsclip_jax.features.images import resolve_compute
from fsclip_jax.features.shards import ExtractSettings

DEFAULT_BACKBONE = "mini"
PHOTO_BACKBONE = "openai/clip-vit-base-patch32"
"""What is recommended for photographs, of which the bundled CLIP has seen none."""
_DEFAULTS = ExtractSettings()
_ALWAYS = {"fit": "crop", "resample": "bicubic", "edge": None}


def identity(
    source: ImageSource,
    backbone: Backbone,
    settings: ExtractSettings,
    prompts: ClassPrompts | None = None,
) -> dict[str, Any]:
    """Return all that the content of a bank depends on, as JSON.

    Two extractions with equal identity give the same bank, so one may continue the other.
    """
    prompts = prompts or prompts_of(source, backbone, settings)
    compute = resolve_compute(settings.compute)
    listing = hashlib.sha256()
    for values in (source.class_names, source.keys, source.domain_names):
        listing.update("\0".join(values).encode("utf-8", "surrogateescape") + b"\1")
    for array in (source.labels, source.splits, source.domains):
        listing.update(b"" if array is None else np.ascontiguousarray(array, np.int32).tobytes())
    return {
        "data": {"spec": source.spec, "version": source.version, "listing": listing.hexdigest()},
        "backbone": {"id": backbone.id, "sha256": backbone.sha256},
        "preprocessing": preprocessing_of(backbone),
        "templates": list(prompts.templates),
        "views": settings.views,
        "dtype": settings.dtype,
        "seed": settings.seed if settings.views > 1 else None,
        "shard": settings.shard,
        "prompts": settings.prompts and backbone.tokenizer is not None,
        # As banks on disk call it, and only where it is so: those made before stay the same.
        **({"locals": True} if settings.patches else {}),
        **({"features": settings.features} if settings.features != "post" else {}),
        **({"decode": "draft"} if settings.decode == "draft" and source.draft else {}),
        **({"compute": compute} if compute != "float32" else {}),
        **({"prompt_file": prompts.file["sha256"]} if prompts.file else {}),
        **({"text_lengths": True} if backbone.tokenizer is not None else {}),
    }


def icons_only(remedy: str) -> str:
    """Say to whoever named no backbone what the bundled one is for.

    Example:
        >>> icons_only("give --backbone X")
        'the bundled CLIP, mini, knows icons; for photographs give --backbone X (a download, once)'
    """
    return (
        f"the bundled CLIP, {DEFAULT_BACKBONE}, knows icons; for photographs {remedy} (a download, "
        "once)"
    )


def prompts_of(
    source: ImageSource, backbone: Backbone, settings: ExtractSettings = _DEFAULTS
) -> ClassPrompts:
    """Write the prompts of a data set for a backbone.

    The bundled mini CLIP was trained on bare names: "a photo of a" means nothing to it, so it is
    asked the name alone whatever the templates are. Sentences of a file it is asked all the same.
    An image tower without text is asked nothing; a note says so of what is given for text.
    """
    if backbone.tokenizer is None:
        given = (settings.templates != "single", settings.prompt_file, settings.prompts)
        flags = ("--templates", "--prompt-file", "--prompts")
        unused = ", ".join(flag for flag, value in zip(flags, given, strict=True) if value)
        note = f"{backbone.id} is an image tower without text: {unused} changes nothing"
        return ClassPrompts((), (), notes=(note,) if unused else ())
    bare = backbone.id == DEFAULT_BACKBONE
    return choose_prompts(source, settings.templates, settings.prompt_file, bare)


def preprocessing_of(backbone: Backbone) -> dict[str, Any]:
    """Return what turns an image into pixels, as JSON."""
    found = json.loads(json.dumps(dataclasses.asdict(backbone.preprocess), default=str))
    # What was not always there is left out where it is as it always was.
    return {name: value for name, value in found.items() if _ALWAYS.get(name) != value}
