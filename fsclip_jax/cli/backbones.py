"""``fsclip backbones``: published models to choose from."""

import sys
from collections.abc import Sequence

from fsclip_jax.clip.published import KNOWN, SOURCES, KnownModel
from fsclip_jax.errors import UserError, suggestion

_USAGE = """usage: fsclip backbones [WORD ...]

List published CLIPs that --backbone takes, those whose name holds every WORD.
Other models of the same layouts load too: by their Hugging Face id (OWNER/NAME, or
OWNER/NAME@REVISION for one commit, branch or tag), from a folder in Hugging Face or open_clip
layout, or from a single weights file, OpenAI's .pt archives among them."""

_HEAD = ("backbone", "is", "parameters", "pixels", "dim", "licence", "ImageNet", "by")
_RIGHT = {"parameters", "pixels", "dim", "ImageNet"}


def rows_of(models: Sequence[KnownModel]) -> list[tuple[str, ...]]:
    """Lay models out as the cells of a table.

    Args:
        models: what to list.

    Returns:
        One row a model; a dash where nothing certain is known.
    """
    return [
        (
            model.id,
            model.name or "-",
            f"{model.parameters / 1e6:,.0f} M",
            str(model.config.vision.image_size),
            str(model.config.embed_dim),
            model.licence,
            "-" if model.top1 is None else f"{model.top1:.1f}",
            model.source or "-",
        )
        for model in models
    ]


def matching(words: Sequence[str]) -> list[KnownModel]:
    """Find the models whose id or name holds every word.

    Args:
        words: in any case.

    Returns:
        The models in the order of the table.

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


def _print_plain(rows: Sequence[Sequence[str]]) -> None:
    table = [_HEAD, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(_HEAD))]
    for row in table:
        cells = (
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for name, cell, width in zip(_HEAD, row, widths, strict=True)
        )
        print("  ".join(cells).rstrip())


def _print_rich(rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in _HEAD:
        table.add_column(
            name, justify="right" if name in _RIGHT else "left", no_wrap=name == "backbone"
        )
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def main(argv: Sequence[str]) -> int:
    """Run ``fsclip backbones`` and return its exit code.

    Args:
        argv: the words after ``fsclip backbones``.
    """
    if any(word in ("-h", "--help") for word in argv):
        print(_USAGE)
        return 0
    if flags := [word for word in argv if word.startswith("-")]:
        raise UserError(f"unknown flag {flags[0]}; `fsclip backbones` takes words and --help")
    models = matching(argv)
    (_print_rich if sys.stdout.isatty() else _print_plain)(rows_of(models))
    print("\nImageNet: published zero-shot top-1 accuracy in percent, as given by")
    for name in dict.fromkeys(model.source for model in models if model.source):
        print(f"  {name}: {SOURCES[name]}")
    return 0
