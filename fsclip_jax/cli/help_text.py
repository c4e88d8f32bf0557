"""What ``--help`` of a command prints: its options in groups, and examples."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from fsclip_jax.cli.compiled import FLAG
from fsclip_jax.cli.options import (
    ARGUMENTS,
    GROUPS,
    Option,
    command_lines,
    line_width,
    options_of,
    wrapped,
)

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "train": (
        "train configs/quickstart.py",
        "train --data folder:pictures --steps 400 --workdir runs/pictures",
    ),
    "eval": (
        "eval configs/quickstart.py --shots 1 4 --seeds 3",
        "eval --data folder:pictures --methods zero_shot tip_adapter ridge --shots 1 2",
    ),
    "suite": (
        "suite configs/emoji_suite.py",
        "suite --data emoji:animals emoji:food --methods zero_shot ridge --shots 1 4",
    ),
    "extract": (
        "extract --data folder:pictures --out banks/pictures",
        "extract --data emoji --backbone openai/clip-vit-base-patch32 --views 4 --out banks/emoji",
    ),
    "bank import": (
        "bank import --features features.npz --out banks/mine",
        "bank import --features features.pt --backbone-id ViT-B/32 --out banks/mine",
    ),
    "bank show": ("bank show banks/mine", "bank show banks/mine --verify"),
    "predict": (
        "predict --support labelled/ --images unlabelled/",
        "predict --support labelled/ --images unlabelled/ --unknown auto --html --move-to sorted/",
    ),
    "undo": ("undo sorted/", "undo ~/pictures/sorted"),
    "export": (
        "export --checkpoint runs/quickstart --out adapter/",
        "export --support labelled/ --format stablehlo --out birds/",
    ),
    "report": ("report runs/quickstart", "report runs/quickstart/report.json --out pages/"),
    "detect": (
        "detect --scenes scenes/ --out runs/boxes",
        (
            "detect --images images/ --annotations test.json --support-annotations train.json "
            "--proposals proposals.json --out runs/boxes"
        ),
    ),
    "segment": (
        "segment --scenes scenes/ --out runs/pixels",
        "segment --scenes scenes/ --shots 1 4 --methods zero_shot ridge --out runs/pixels",
    ),
    "scenes": (
        "scenes --out scenes/",
        "scenes --proposals-for pictures/ --out proposed/",
    ),
    "methods": ("methods", "methods tip_adapter"),
    "backbones": ("backbones", "backbones siglip base"),
    "datasets": ("datasets", "datasets caltech101 --root /data/coop"),
    "completion": (
        "completion bash > ~/.local/share/bash-completion/completions/fsclip",
        "completion fish > ~/.config/fish/completions/fsclip.fish",
    ),
}
"""Command lines to begin with, without the word ``fsclip`` before them."""

_LEFT = 26
"""Column at which the texts of options begin."""


def help_text(
    kind: type, command: str, prog: str, default: Any = None, width: int | None = None
) -> str:
    """Return the help of a command, no line longer than the terminal is wide.

    Args:
        prog: the words that run the command.
        default: values of a configuration file, which may then come before the flags.
        width: of the lines; the terminal's, 100 at most, unless given.
    """
    width = width or line_width()
    options = options_of(kind, default)
    told = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]
    lines = [*_usage(prog, options, config=default is not None), "", *wrapped(told, width)]
    for title in (ARGUMENTS, *GROUPS, "Other"):
        group = [line for one in options if one.group == title for line in _told(one, width)]
        if title == ARGUMENTS and default is not None:
            text = "configuration whose values the flags override; its values are the defaults here"
            group = _entry("CONFIG.py", text, width)
        lines += ["", f"{title}:", *group] * bool(group)
    lines += ["", "Always:"]
    lines += _entry(f"{FLAG} DIR|off", "where compiled programs are kept", width)
    lines += _entry("-h, --help", "print this and leave", width)
    examples = EXAMPLES.get(command, ())
    lines += ["", "Examples:"] * bool(examples)
    for example in examples:
        lines += command_lines(f"{prog}{example.removeprefix(command)}", width, "  ")
    return "\n".join(lines)


def _usage(prog: str, options: list[Option], *, config: bool) -> Iterator[str]:
    words = [f"usage: {prog}", *["[CONFIG.py]"] * config]
    for option in options:
        if not option.flags:
            words.append(option.takes if option.default is None else f"[{option.takes}]")
        elif option.default is None:
            words.append(f"{option.flags[0]} {option.takes}")
    yield " ".join([*words, "[OPTIONS]"])


def _told(option: Option, width: int) -> Iterator[str]:
    head = ", ".join(option.flags) or option.takes
    if option.flags and option.takes:
        head += f" {option.takes}"
    text = option.text
    if option.default is None:
        text += " (required)"
    elif option.default:
        # It stays in one piece where a line has room for it.
        text += f" (default: {option.default})"
    return iter(_entry(head, text, width))


def _entry(head: str, text: str, width: int) -> list[str]:
    """A head, and its text beside it, or below where the head is long."""
    heads = [f"  {head}"]
    if len(heads[0]) > width:  # a list of choices
        heads = _choices(head, width)
    body = wrapped(text, width, " " * _LEFT)
    if len(heads[-1]) <= _LEFT - 2 and body:
        heads[-1] += body.pop(0)[len(heads[-1]) :]
    return [*heads, *body]


def _choices(head: str, width: int) -> list[str]:
    lines = [""]
    for at, choice in enumerate(head.split("|")):
        word = f"|{choice}" if at else f"  {choice}"
        if len(lines[-1]) + len(word) > width:
            lines.append("      ")
        lines[-1] += word
    return lines
