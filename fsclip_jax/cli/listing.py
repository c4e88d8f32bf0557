"""What several commands print: a table, and what a bank that was just made holds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fsclip_jax.cli.options import command_lines, line_width, wrapped


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()
) -> None:
    """Print aligned columns, on a terminal as in a pipe; those in ``right`` hold numbers.

    Nothing is cut: what the last column holds may be as long as it is.
    """
    widths = [max(map(len, cells)) for cells in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, name, width in zip(row, head, widths, strict=True)
        )
        print("  ".join(cells).rstrip())


def print_lines(*lines: str) -> None:
    """Print lines no wider than a terminal; what goes on has the indent of its line and two more.

    A command, after ``$``, is continued as a shell takes it.
    """
    width = line_width()
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()))
        text = line.strip()
        if text.startswith("$ "):
            print("\n".join(command_lines(text[2:], width, indent)))
            continue
        first, *rest = wrapped(text, width - len(indent)) or [""]
        print(f"{indent}{first}")
        for more in wrapped(" ".join(rest), width - len(indent) - 2):
            print(f"{indent}  {more}")


def print_facts(facts: Mapping[str, str]) -> None:
    """Print names, and beside each what goes with it, no wider than a terminal."""
    left = max(map(len, facts)) + 2
    for name, text in facts.items():
        first, *rest = wrapped(text, line_width() - left) or [""]
        print(f"{name:<{left}}{first}")
        for more in rest:
            print(f"{'':<{left}}{more}")


def bank_line(out: Path, manifest: Mapping[str, Any]) -> str:
    """Say in a line what a bank holds, and how to use it."""
    counts = [f"{manifest['n']} images"]
    if manifest["skipped"]:
        counts.append(f"{len(manifest['skipped'])} unreadable")
    counts.append(f"{manifest['views']} view(s)")
    if patches := manifest.get("patches"):
        counts.append(f"{patches} patch(es)")
    counts.append(f"{manifest['classes']} classes, dim {manifest['dim']}")
    return f"{out}: {', '.join(counts)}; use it as --data bank:{out}"
