"""Prompt templates: patterns with ``{}`` where the name of a class goes."""

from collections.abc import Sequence

BARE = ("{}",)
"""The name alone: what the bundled mini CLIP was trained on."""

PHOTO = ("a photo of a {}.",)
"""CLIP's generic prompt."""

ENSEMBLE = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""The seven templates that Tip-Adapter averages on ImageNet (Zhang et al., ECCV 2022); CLIP's
authors picked them from their 80."""


def prompts(class_name: str, templates: Sequence[str]) -> list[str]:
    """Write a class name into every template; ``_`` in the name becomes a space.

    Raises:
        ValueError: a template has no ``{}``.

    Example:
        >>> prompts("hot_dog", PHOTO)
        ['a photo of a hot dog.']
    """
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"the prompt template {template!r} has no {{}} for the class name")
    name = class_name.replace("_", " ")
    return [template.replace("{}", name) for template in templates]
