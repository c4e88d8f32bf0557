"""``report.md``: the tables of a report, to be read on a code host or pasted into a paper draft."""

from collections.abc import Iterable, Sequence

from fsclip_jax.report.metrics import with_interval
from fsclip_jax.report.rows import Report
from fsclip_jax.report.sentences import (
    facts,
    headline,
    interval_line,
    protocol_line,
    selection_lines,
    selection_note,
    title,
)
from fsclip_jax.report.tables import (
    Listing,
    MethodGrid,
    differences,
    grid_of,
    other_numbers,
    tables,
)


def report_to_markdown(report: Report) -> str:
    """Draw a report as Markdown."""
    parts = [
        f"# {plain(title(report))}",
        *(f"> **Warning:** {plain(line)}" for line in report.warning),
        plain(headline(report)),
        f"{plain(protocol_line(report))} {interval_line(report)} Bold: the best of its column.",
        *(f"## {plain(table.title)}\n\n{grid_table(grid_of(table))}" for table in tables(report)),
        *listing("Differences", differences(report)),
        *listing("Other numbers", other_numbers(report.rows)),
        *_selections(report),
        "## How it was measured",
        _table(["fact", "value"], [[name, f"`{text}`"] for name, text in facts(report)]),
    ]
    return "\n\n".join(parts) + "\n"


def grid_table(grid: MethodGrid) -> str:
    """Draw methods by columns; the best of every column is bold."""
    rows = []
    for method in grid.methods:
        cells = [f"`{method}`"]
        for column in grid.columns:
            cell = column.cells.get(method)
            half = cell.ci95 if cell and grid.intervals else None
            text = with_interval(cell.mean, half, grid.metric.digits) if cell else ""
            cells.append(f"**{text}**" if method in column.best else text)
        rows.append(cells)
    return _table(["method", *(column.title for column in grid.columns)], rows)


def listing(title: str, listed: Listing) -> list[str]:
    """Draw a line a row, under a title; nothing where there is no line."""
    if not listed.lines:
        return []
    rows = [[row.split, f"`{row.method}`", str(row.shots), *texts] for row, texts in listed.lines]
    table = _table(["split", "method", "shots", *listed.head], rows)
    return [f"## {title}", *([listed.note] if listed.note else []), table]


def _selections(report: Report) -> list[str]:
    lines = selection_lines(report)
    if not lines:
        return []
    return ["## Settings", selection_note(report), "\n".join(f"- {plain(line)}" for line in lines)]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay cells out as a table; a line break or a bar within a cell does not end it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def plain(text: object) -> str:
    """The text on one line, with what Markdown or HTML would read as markup made literal."""
    line = " ".join(str(text).split())
    for mark in "\\`*[]<>|#":
        line = line.replace(mark, "\\" + mark)
    return line
