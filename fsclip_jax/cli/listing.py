"""What several commands print: a table, and what a bank that was just made holds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = (), title: str = ""
) -> None:
    """Print a table on a terminal, elsewhere lines with tabs; columns in ``right`` hold numbers."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        for row in (head, *rows):
            print("\t".join(row))
        return
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for name in head:
        table.add_column(
            name,
            justify="right" if name in right else "left",
            no_wrap=name == head[0],
            overflow="fold",
        )
    for row in rows:
        table.add_row(*row)
    console.print(table)


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
