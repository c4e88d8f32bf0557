"""``fsclip backbones``: published models to choose from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from fsclip_jax.cli.listing import print_lines, print_table
from fsclip_jax.cli.parsing import parse
from fsclip_jax.clip.published import KNOWN, SOURCES, KnownModel
from fsclip_jax.errors import UserError, suggestion

_HEAD = ("backbone", "size", "px", "dim", "licence", "top-1")
_RIGHT = ("size", "px", "dim", "top-1")


def matching(words: Sequence[str]) -> list[KnownModel]:
    """Find the models whose id or name holds every word, in any case, in the table's order.

    Raises:
        UserError: there is none.

    Example:
        >>> [model.id for model in matching(["rn50x4"])]
        ['timm/resnet50x4_clip.openai']
    """
    found = [
        model
        for model in KNOWN
        if all(word.lower() in f"{model.id} {model.name}".lower() for word in words)
    ]
    if not found:
        names = [name.lower() for model in KNOWN for name in (model.id, model.name) if name]
        near = suggestion(words[0].lower(), names)
        raise UserError(
            f"no known backbone is called {' '.join(words)}{near} (`fsclip backbones` lists all; "
            "others load by their Hugging Face id)"
        )
    return found


@dataclass(frozen=True)
class BackbonesConfig:
    """List published CLIPs that --backbone takes."""

    words: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Only those whose name holds every word. Others load too: by their Hugging Face id
    (OWNER/NAME or OWNER/NAME@REVISION), a folder in Hugging Face or open_clip layout, or a single
    weights file, OpenAI's .pt archives among them."""


def _size(model: KnownModel) -> str:
    return f"{model.parameters / 1e6:.0f}M"


def _row(model: KnownModel) -> tuple[str, ...]:
    return (
        model.id,
        _size(model),
        str(model.config.vision.image_size),
        str(model.config.embed_dim),
        model.licence,
        "-" if model.top1 is None else f"{model.top1:.1f}",
    )


def _about(model: KnownModel) -> Iterator[str]:
    side = model.config.vision.image_size
    yield model.id
    if model.name:
        yield f"  is: {model.name}"
    yield f"  parameters: {_size(model)}"
    yield f"  pictures: {side} x {side} pixels, to {model.config.embed_dim} numbers"
    yield f"  licence: {model.licence}"
    if model.source:
        by = f"{model.source}, {SOURCES[model.source]}"
        yield f"  ImageNet: {model.top1:.1f} % zero-shot top-1, as published by {by}"
    yield f"  use: --backbone {model.id}"


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    models = matching(parse(BackbonesConfig, argv, prog="fsclip backbones").words)
    if len(models) == 1:
        print_lines(*_about(models[0]))
        return 0
    print_table(_HEAD, [_row(model) for model in models], _RIGHT)
    sources = dict.fromkeys(model.source for model in models if model.source)
    print_lines(
        "",
        "size: parameters. px: side of the pictures. dim: length of the features.",
        "top-1: zero-shot accuracy on ImageNet in percent, as published by",
        *(f"  {name}: {SOURCES[name]}" for name in sources),
        "`fsclip backbones NAME` says all about one.",
    )
    return 0
