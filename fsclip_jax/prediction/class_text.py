"""What stands for classes by name, for pictures that come without a data set."""

from collections.abc import Sequence
from typing import TypeAlias, get_args

import numpy as np

from fsclip_jax.clip.load import Backbone
from fsclip_jax.data.prompts import TemplateChoice
from fsclip_jax.data.templates import PHOTO
from fsclip_jax.errors import UserError
from fsclip_jax.features.identity import prompts_of
from fsclip_jax.features.shards import ExtractSettings
from fsclip_jax.features.text import class_text_features
from fsclip_jax.prediction.images import picture_source
from fsclip_jax.typing import Float

Templates: TypeAlias = TemplateChoice | Sequence[str]
"""The name of templates, or templates with ``{}`` for the name of the class."""


def prompting(templates: Templates) -> tuple[ExtractSettings, tuple[str, ...]]:
    """Tell the name of templates, which a bank is extracted with, from templates of one's own.

    Raises:
        UserError: no templates have that name.

    Example:
        >>> prompting("ensemble")[0].templates, prompting(["a {}"])[1]
        ('ensemble', ('a {}',))
    """
    if not isinstance(templates, str):
        own = tuple(templates)
        if not own or not all(isinstance(one, str) and "{}" in one for one in own):
            odd = next((one for one in own if not isinstance(one, str) or "{}" not in one), own)
            raise UserError(
                f"templates has {odd!r}; give some of your own, each with {{}} where the name of "
                "the class goes"
            )
        return ExtractSettings(), own
    named = {name: ExtractSettings(templates=name) for name in get_args(TemplateChoice)}
    if templates not in named:
        raise UserError(
            f"templates is {templates!r}; give {' or '.join(map(repr, named))}, or a list of your "
            "own, with {} where the name of the class goes"
        )
    return named[templates], ()


def text_of_classes(
    clip: Backbone, names: Sequence[str], templates: Templates
) -> Float[np.ndarray, "way dim"]:
    """Return the unit text features of classes; zero of an image tower without text."""
    if clip.tokenizer is None:
        return np.zeros((len(names), clip.embed_dim), np.float32)
    settings, own = prompting(templates)
    named = picture_source((), names, own or PHOTO)
    return class_text_features(clip, prompts_of(named, clip, settings).each).text
