"""``fsclip methods``: the few-shot methods to choose from."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from fsclip_jax.cli.options import line_width, wrapped
from fsclip_jax.cli.parsing import parse

_HEAD = ("method", "kind", "cost", "needs", "source")


@dataclass(frozen=True)
class MethodsConfig:
    """List the few-shot methods, or say all about one."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """A method: print its equation, fields and source. Without: list all."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    config = parse(MethodsConfig, argv, prog="fsclip methods")
    from fsclip_jax.adapters.catalog import get_adapter
    from fsclip_jax.adapters.describe import method_markdown, methods, refinements
    from fsclip_jax.cli.listing import print_lines, print_table

    if config.name:
        if config.name not in [each.name for each in refinements()]:
            get_adapter(config.name)  # says so where there is none
        print("\n".join(_told(method_markdown(config.name, level=1), line_width())).strip())
        return 0
    rows = [
        (
            method.name,
            method.kind.removesuffix(" on the shots"),
            method.cost.replace("iterations", "steps").replace(" or ", "/") or "-",
            ", ".join((*method.needs, *(["val"] if method.searched else []))) or "-",
            _who(method.source),
        )
        for method in (*methods(), *refinements())
    ]
    print_table(_HEAD, rows)
    print_lines(
        "",
        "closed form: no training. trained, learned prompt: on the shots of each task.",
        "transductive, test-time: refine the answers of any other, as they see the queries; rows "
        "of `fsclip eval --protocol transductive` alone.",
        "meta-learned: by `fsclip train`, once for all tasks; fits in one pass.",
        "needs: beside image features and names of classes; prompts are single prompts' "
        "vectors (--prompts), words the text tower, projection features before the last one "
        "(--features pre), towers the pictures and gradients of both towers, val images or "
        "held-out shots to choose scalars on.",
        "`fsclip methods NAME` says all about one: equation, fields, what is searched.",
    )
    return 0


def _told(page: str, width: int) -> Iterator[str]:
    """The lines of a page of Markdown: paragraphs filled, the table of fields as a list."""
    for at, part in enumerate(page.split("```")):
        if at % 2:
            yield f"```{part}```"
            continue
        for block in part.strip("\n").split("\n\n"):
            yield ""
            lines = (
                block.splitlines() if block.startswith(("|", "- ")) else [" ".join(block.split())]
            )
            for line in lines:
                if line.startswith("| `"):
                    name, default, text = line.strip("| ").replace("\\|", "\0").split(" | ", 2)
                    line = f"- {name} ({default}): {text}".replace("\0", "|")
                if not line.startswith("|"):
                    first, *rest = wrapped(line, width - 2 * line.startswith("- "))
                    yield from (first, *("  " * line.startswith("- ") + more for more in rest))


def _who(source: str) -> str:
    """The authors alone, or the title where no author is named.

    Example:
        >>> _who('Zhou et al., "Learning to Prompt"'), _who("this project; a limit of another")
        ('Zhou et al.', 'this project')
    """
    return re.split(r'[,;] |, "', source)[0].strip('"')
