"""``fsclip methods``: the few-shot methods to choose from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from fsclip_jax.cli.parsing import parse

_HEAD = ("method", "kind", "searched", "needs", "source")


@dataclass(frozen=True)
class MethodsConfig:
    """List the few-shot methods, or say all about one."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """A method: print its equation, fields and source. Without: list all."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    config = parse(MethodsConfig, argv, prog="fsclip methods")
    from fsclip_jax.adapters.catalog import get_adapter
    from fsclip_jax.adapters.describe import method_markdown, methods
    from fsclip_jax.cli.listing import print_table

    if config.name:
        get_adapter(config.name)  # says so where there is none
        print(method_markdown(config.name, level=1))
        return 0
    cells = (
        (", ".join(cell) if isinstance(cell, tuple) else cell for cell in m) for m in methods()
    )
    rows = [tuple(cell or "-" for cell in row) for row in cells]
    print_table(_HEAD, rows, title="few-shot methods")
    print("`fsclip methods NAME` prints the equation, the fields and the source of one.")
    return 0
