"""Prompt templates: patterns with ``{}`` where the name of a class goes."""

from collections.abc import Mapping, Sequence

BARE = ("{}",)
"""The name alone: what the bundled mini CLIP was trained on."""

PHOTO = ("a photo of a {}.",)
"""CLIP's generic prompt."""

SINGLE: Mapping[str, tuple[str, ...]] = {
    "imagenet": PHOTO,
    "imagenet_v2": PHOTO,
    "imagenet_sketch": PHOTO,
    "imagenet_a": PHOTO,
    "imagenet_r": PHOTO,
    "caltech101": PHOTO,
    "stanford_cars": PHOTO,
    "sun397": PHOTO,
    "oxford_pets": ("a photo of a {}, a type of pet.",),
    "oxford_flowers": ("a photo of a {}, a type of flower.",),
    "fgvc_aircraft": ("a photo of a {}, a type of aircraft.",),
    "food101": ("a photo of {}, a type of food.",),
    "dtd": ("{} texture.",),
    "eurosat": ("a centered satellite photo of {}.",),
    "ucf101": ("a photo of a person doing {}.",),
}
"""The one template of each of CoOp's data sets (Zhou et al., IJCV 2022); Tip-Adapter's too."""

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
