"""The tables on the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from fsclip_jax.printable import printable
from fsclip_jax.report.metrics import with_interval
from fsclip_jax.report.names import method_title
from fsclip_jax.report.rows import Report
from fsclip_jax.report.sentences import (
    headline,
    interval_line,
    protocol_line,
)
from fsclip_jax.report.shots import shots_phrase
from fsclip_jax.report.tables import (
    Column,
    MethodGrid,
    grid_of,
    main_table,
    other_numbers,
    tables,
)

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
        grid = grid_of(table)
        columns = [(column.title, _texts(grid, column)) for column in grid.columns]
        _print(table.title, grid.methods, columns, console)
    main = main_table(report)
    others = other_numbers(main.last_rows())
    if others.lines:
        texts = zip(*([Text(text) for text in texts] for _, texts in others.lines), strict=True)
        title = f"Other numbers on {main.where}, {shots_phrase(main.shots[-1])}"
        columns = [(head, list(each)) for head, each in zip(others.head, texts, strict=True)]
        _print(title, [row.method for row, _ in others.lines], columns, console)
    console.print(_text(f"{protocol_line(report)} {interval_line(report)}", "dim"))
    for line in report.warning:
        console.print(_text(f"Warning: {line}", "yellow"))
    console.print(_text(headline(report)))


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style)


def _texts(grid: MethodGrid, column: Column) -> list[Text]:
    cells = ((method, column.cells.get(method)) for method in grid.methods)
    return [
        Text(
            with_interval(cell.mean, cell.ci95, grid.metric.digits) if cell else "",
            style="bold" if method in column.best else "",
        )
        for method, cell in cells
    ]


def _blocks(
    columns: Sequence[tuple[str, Sequence[Text]]], room: int
) -> list[list[tuple[str, Sequence[Text]]]]:
    """Put columns side by side as long as there is room."""
    blocks: list[list[tuple[str, Sequence[Text]]]] = []
    left = 0
    for head, texts in columns:
        width = max(*map(len, texts), min(len(head), HEAD)) + GAP
        if not blocks or width > left:
            blocks.append([])
            left = room
        blocks[-1].append((head, texts))
        left -= width
    return blocks


def _print(
    title: str,
    methods: Sequence[str],
    columns: Sequence[tuple[str, Sequence[Text]]],
    console: Console,
) -> None:
    titles = [method_title(method) for method in methods]
    name = max(map(len, titles))
    widest = max(len(text) for _, texts in columns for text in texts)
    for block in _blocks(columns, console.width - name):
        printed = RichTable(
            title=_text(title), title_justify="left", title_style="bold", box=None, pad_edge=False,
            padding=(0, GAP, 0, 0), header_style="dim",
        )  # fmt: skip
        printed.add_column("method", no_wrap=True, vertical="bottom")
        for head, _ in block:
            printed.add_column(head, justify="right", max_width=max(widest, HEAD))
        for i, title_of in enumerate(titles):
            printed.add_row(_text(title_of), *(texts[i] for _, texts in block))
        console.print(printed)
