"""``fsclip backbones``: published models to choose from."""

from collections.abc import Sequence

from fsclip_jax.cli.listing import print_table
from fsclip_jax.clip.published import KNOWN, SOURCES, KnownModel
from fsclip_jax.errors import UserError, suggestion

_USAGE = """usage: fsclip backbones [WORD ...]

List published CLIPs that --backbone takes, those whose name holds every WORD.
Other models of the same layouts load too: by their Hugging Face id (OWNER/NAME, or
OWNER/NAME@REVISION for one commit, branch or tag), from a folder in Hugging Face or open_clip
layout, or from a single weights file, OpenAI's .pt archives among them."""

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
    if any(word in ("-h", "--help") for word in argv):
        print(_USAGE)
        return 0
    if flags := [word for word in argv if word.startswith("-")]:
        raise UserError(f"unknown flag {flags[0]}; `fsclip backbones` takes words and --help")
    models = matching(argv)
    print_table(_HEAD, [_row(model) for model in models], _RIGHT)
    print("\nImageNet: published zero-shot top-1 accuracy in percent, as given by")
    for name in dict.fromkeys(model.source for model in models if model.source):
        print(f"  {name}: {SOURCES[name]}")
    return 0
