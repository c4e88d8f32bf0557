"""The tables on the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from fsclip_jax.report.rows import Report, Row
from fsclip_jax.report.tables import (
    Table,
    headline,
    interval_line,
    percent,
    protocol_line,
    tables,
)

GAP = 2
"""Columns of the terminal between two numbers."""


def print_report(report: Report, console: Console) -> None:
    """Print the accuracies, methods by shots; the best of every column is bold.

    Columns that do not fit side by side go below one another.

    Args:
        report: the report.
        console: where to; not a terminal gives plain text.
    """
    for table in tables(report):
        name = max(len(method) for method in table.methods)
        cell = max(len(_number(row)) for row in table.cells.values())
        many = max(1, (console.width - name) // (max(cell, len("16-shot")) + GAP))
        for first in range(0, len(table.shots), many):
            console.print(_grid(table, table.shots[first : first + many]))
    console.print(Text(f"{protocol_line(report)} {interval_line(report)}", style="dim"))
    for line in report.warning:
        console.print(Text(f"Warning: {line}", style="yellow"))
    console.print(Text(headline(report)))


def _grid(table: Table, shots: Sequence[int]) -> Grid:
    grid = Grid(
        title=Text(table.title), title_justify="left", title_style="bold", box=None, pad_edge=False,
        padding=(0, GAP, 0, 0), header_style="dim",
    )  # fmt: skip
    grid.add_column("method", no_wrap=True)
    for shot in shots:
        grid.add_column(f"{shot}-shot", justify="right", no_wrap=True)
    for method in table.methods:
        cells = [Text(method)]
        for shot in shots:
            row = table.cells.get((method, shot))
            cells.append(
                Text(
                    _number(row) if row else "", style="bold" if method in table.best[shot] else ""
                )
            )
        grid.add_row(*cells)
    return grid


def _number(row: Row) -> str:
    return percent(row.accuracy.mean, row.accuracy.ci95, digits=1)
