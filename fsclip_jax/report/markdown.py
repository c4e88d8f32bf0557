"""``report.md``: the tables of a report, to be read on a code host or pasted into a paper draft."""

from collections.abc import Iterable, Sequence

from fsclip_jax.report.metrics import with_interval
from fsclip_jax.report.rows import Report, ordered
from fsclip_jax.report.sentences import (
    DIFFERENCES,
    facts,
    headline,
    interval_line,
    protocol_line,
    selection_lines,
    selection_note,
    shots_phrase,
    title,
)
from fsclip_jax.report.tables import Table, differences, other_numbers, tables


def report_to_markdown(report: Report) -> str:
    """Draw a report as Markdown."""
    parts = [
        f"# {plain(title(report))}",
        *(f"> **Warning:** {plain(line)}" for line in report.warning),
        plain(headline(report)),
        f"{plain(protocol_line(report))} {interval_line(report)} Bold: the best of its column.",
        *(f"## {plain(table.title)}\n\n{metric_table(table)}" for table in tables(report)),
        *_differences(report),
        *_other_numbers(report),
        *_selections(report),
        "## How it was measured",
        markdown_table(["fact", "value"], [[name, f"`{text}`"] for name, text in facts(report)]),
    ]
    return "\n\n".join(parts) + "\n"


def metric_table(table: Table) -> str:
    """Draw the methods of one split against the shots; the best of every column is bold."""
    rows = []
    for method in table.methods:
        cells = [f"`{method}`"]
        for shots in table.shots:
            cell = table.at(method, shots)
            text = with_interval(cell.mean, cell.ci95, table.metric.digits) if cell else ""
            cells.append(f"**{text}**" if method in table.best[shots] else text)
        rows.append(cells)
    return markdown_table(["method", *map(shots_phrase, table.shots)], rows)


def _differences(report: Report) -> list[str]:
    listed = differences(report)
    if not listed:
        return []
    names = ordered([name for _, versus in listed for name in versus])
    rows = [
        [row.split, f"`{row.method}`", str(row.shots), *(versus.get(name, "") for name in names)]
        for row, versus in listed
    ]
    head = ["split", "method", "shots", *(f"minus `{name}`" for name in names)]
    return ["## Differences", DIFFERENCES, markdown_table(head, rows)]


def _other_numbers(report: Report) -> list[str]:
    others = other_numbers(report.rows)
    if not others.metrics:
        return []
    rows = [[row.split, f"`{row.method}`", str(row.shots), *texts] for row, texts in others.lines]
    table = markdown_table(["split", "method", "shots", *others.head], rows)
    return ["## Other numbers", *([others.note] if others.note else []), table]


def _selections(report: Report) -> list[str]:
    lines = selection_lines(report)
    if not lines:
        return []
    return ["## Settings", selection_note(report), "\n".join(f"- {plain(line)}" for line in lines)]


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
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
