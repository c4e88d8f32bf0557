"""The tables on the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from fsclip_jax.report.metrics import with_interval
from fsclip_jax.report.rows import Report
from fsclip_jax.report.sentences import (
    headline,
    interval_line,
    protocol_line,
    shots_phrase,
    split_phrase,
)
from fsclip_jax.report.tables import Table, main_table, other_numbers, tables

GAP = 2
"""Columns of the terminal between two numbers."""

HEAD = 15
"""Columns of the terminal that a head takes before it is broken."""


def print_report(report: Report, console: Console) -> None:
    """Print the numbers, methods by shots, the best of every column bold; then the others.

    Columns that do not fit side by side go below one another. What is not a terminal gets plain
    text.
    """
    for table in tables(report):
        columns = [(f"{shots}-shot", _column(table, shots)) for shots in table.shots]
        _print_grid(table.title, table.methods, columns, console)
    main = main_table(report)
    others = other_numbers(main.last_rows())
    if others.metrics:
        listed = zip(*(texts for _, texts in others.lines), strict=True)
        columns = [
            (head, [Text(text) for text in texts])
            for head, texts in zip(others.head, listed, strict=True)
        ]
        methods = [row.method for row, _ in others.lines]
        title = f"Other numbers on {split_phrase(main.split)}, {shots_phrase(main.shots[-1])}"
        _print_grid(title, methods, columns, console)
    console.print(Text(f"{protocol_line(report)} {interval_line(report)}", style="dim"))
    for line in report.warning:
        console.print(Text(f"Warning: {line}", style="yellow"))
    console.print(Text(headline(report)))


def _column(table: Table, shots: int) -> list[Text]:
    cells = ((method, table.at(method, shots)) for method in table.methods)
    return [
        Text(
            with_interval(cell.mean, cell.ci95, digits=1) if cell else "",
            style="bold" if method in table.best[shots] else "",
        )
        for method, cell in cells
    ]


def _print_grid(
    title: str,
    methods: Sequence[str],
    columns: Sequence[tuple[str, Sequence[Text]]],
    console: Console,
) -> None:
    name = max(map(len, methods))
    widest = max(len(text) for _, texts in columns for text in texts)
    heads = max(min(len(head), HEAD) for head, _ in columns)
    many = max(1, (console.width - name) // (max(widest, heads) + GAP))
    for first in range(0, len(columns), many):
        grid = Grid(
            title=Text(title), title_justify="left", title_style="bold", box=None, pad_edge=False,
            padding=(0, GAP, 0, 0), header_style="dim",
        )  # fmt: skip
        grid.add_column("method", no_wrap=True, vertical="bottom")
        block = columns[first : first + many]
        for head, _ in block:
            grid.add_column(head, justify="right", max_width=max(widest, HEAD))
        for i, method in enumerate(methods):
            grid.add_row(Text(method), *(texts[i] for _, texts in block))
        console.print(grid)
