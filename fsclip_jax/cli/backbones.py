"""``fsclip backbones``: published models to choose from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from fsclip_jax.cli.listing import print_table
from fsclip_jax.cli.parsing import parse
from fsclip_jax.clip.published import KNOWN, SOURCES, KnownModel
from fsclip_jax.errors import UserError, suggestion

_HEAD = ("backbone", "is", "parameters", "pixels", "dim", "licence", "ImageNet", "by")
_RIGHT = ("parameters", "pixels", "dim", "ImageNet")


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


def _row(model: KnownModel) -> tuple[str, ...]:
    return (
        model.id,
        model.name or "-",
        f"{model.parameters / 1e6:,.0f} M",
        str(model.config.vision.image_size),
        str(model.config.embed_dim),
        model.licence,
        "-" if model.top1 is None else f"{model.top1:.1f}",
        model.source or "-",
    )


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    models = matching(parse(BackbonesConfig, argv, prog="fsclip backbones").words)
    print_table(_HEAD, [_row(model) for model in models], _RIGHT)
    print("\nImageNet: published zero-shot top-1 accuracy in percent, as given by")
    for name in dict.fromkeys(model.source for model in models if model.source):
        print(f"  {name}: {SOURCES[name]}")
    return 0
