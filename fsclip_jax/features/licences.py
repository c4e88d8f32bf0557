"""Under which terms what a classifier is made of may be used, for its model card."""

from collections.abc import Iterable
from pathlib import Path

from fsclip_jax.clip.published import KNOWN
from fsclip_jax.data.catalog import find_builder, find_known
from fsclip_jax.hub import parse_id


def licences_of(backbone: str | None, data: Iterable[str]) -> list[str]:
    """Say under which terms a CLIP, and all data that a classifier has seen, may be used.

    Args:
        backbone: as it was asked for; None if unknown.
        data: specs.
    """
    return [licence_of_backbone(backbone), *map(licence_of_data, data)]


def base_model(spec: str | None) -> str | None:
    """Return the name on the hub of a CLIP; None if it is not from there.

    Example:
        >>> base_model("openai/clip-vit-base-patch32@3d74acf"), base_model("mini")
        ('openai/clip-vit-base-patch32', None)
    """
    found = None if spec is None or Path(spec).exists() else parse_id(spec)
    return None if found is None else found.name


def licence_of_backbone(spec: str | None) -> str:
    """Say under which licence the weights of a CLIP are.

    Example:
        >>> licence_of_backbone("openai/clip-vit-base-patch32")
        'Backbone openai/clip-vit-base-patch32: MIT, as its repository states it.'
    """
    if spec == "mini":
        return (
            "Backbone mini: Apache-2.0 like fsclip_jax, which trained it on open icon sets and "
            "emoji art; `fsclip_jax/assets/mini/SOURCES.csv` lists these and their licences."
        )
    for model in KNOWN:
        if spec is not None and spec.split("@")[0] == model.id:
            return f"Backbone {spec}: {model.licence}, as its repository states it."
    return f"Backbone {spec or 'unknown'}: see where its weights are from."


def licence_of_data(spec: str) -> str:
    """Say whose data it is, and where its terms are.

    Example:
        >>> licence_of_data("folder:photos")
        'Data folder:photos: your own; who may use it you know best.'
    """
    kind, _, rest = spec.partition(":")
    name = rest.partition("@")[0]
    known = {"coop": find_known, "hf": find_known, "tfds": find_builder}.get(kind, lambda _: None)
    if kind == "emoji":
        return (
            "Data emoji: art of eleven emoji sets under Apache-2.0, CC-BY-4.0 and MIT; NOTICE of "
            "fsclip_jax names the authors."
        )
    if found := known(name):
        return f"Data {spec}: {found.title} ({found.citation}); its terms are at {found.url}."
    if kind == "folder":
        return f"Data {spec}: your own; who may use it you know best."
    return f"Data {spec}: see where it is from."
