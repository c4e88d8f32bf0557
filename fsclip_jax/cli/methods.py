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
    from fsclip_jax.adapters.base import grids_of, needs_of
    from fsclip_jax.adapters.catalog import ADAPTERS, get_adapter
    from fsclip_jax.adapters.describe import kind_of, method_markdown, source_of
    from fsclip_jax.cli.listing import print_table

    if config.name:
        get_adapter(config.name)  # says so where there is none
        print(method_markdown(config.name, level=1))
        return 0
    rows = []
    for name, adapter in ((name, get_adapter(name)) for name in ADAPTERS):
        searched = grids_of(adapter)[0].names if grids_of(adapter) else ()
        cells = (", ".join(searched), ", ".join(sorted(needs_of(adapter))), source_of(adapter))
        rows.append((name, kind_of(adapter), *(cell or "-" for cell in cells)))
    print_table(_HEAD, rows, title="few-shot methods")
    print("`fsclip methods NAME` prints the equation, the fields and the source of one.")
    return 0
