"""``report.md``: the tables of a report, to be read on a code host or pasted into a paper draft."""

from collections.abc import Iterable, Sequence

from fsclip_jax.report.rows import Report, ordered
from fsclip_jax.report.sentences import facts, selection_lines
from fsclip_jax.report.tables import (
    COST_HEAD,
    COST_NOTE,
    Table,
    costs,
    differences,
    headline,
    interval_line,
    percent,
    protocol_line,
    selection_note,
    tables,
)

DIFFERENCES = (
    "Points of accuracy between methods that saw the same draws, with the 95 % interval of the "
    "paired difference. An interval that does not reach 0 is a difference beyond luck of the draw."
)


def report_to_markdown(report: Report) -> str:
    """Draw a report as Markdown.

    Args:
        report: the report.

    Returns:
        The whole page.
    """
    parts = [
        f"# Few-shot accuracy on {_plain(report.data.get('spec'))}",
        *(f"> **Warning:** {_plain(line)}" for line in report.warning),
        _plain(headline(report)),
        f"{_plain(protocol_line(report))} {interval_line(report)} Bold: the best of its column.",
        *(f"## {_plain(table.title)}\n\n{accuracy_table(table)}" for table in tables(report)),
        *_differences(report),
        *_costs(report),
        *_selections(report),
        "## How it was measured",
        _table(["fact", "value"], [[name, f"`{text}`"] for name, text in facts(report)]),
    ]
    return "\n\n".join(parts) + "\n"


def accuracy_table(table: Table) -> str:
    """Draw the methods of one split against the shots.

    Args:
        table: the split.

    Returns:
        A Markdown table; the best of every column is bold.
    """
    rows = []
    for method in table.methods:
        cells = [f"`{method}`"]
        for shots in table.shots:
            row = table.cells.get((method, shots))
            text = percent(row.accuracy.mean, row.accuracy.ci95) if row else ""
            cells.append(f"**{text}**" if method in table.best[shots] else text)
        rows.append(cells)
    return _table(["method", *(_shots(shots) for shots in table.shots)], rows)


def _shots(shots: int) -> str:
    return f"{shots} shot" if shots == 1 else f"{shots} shots"


def _differences(report: Report) -> list[str]:
    listed = differences(report)
    if not listed:
        return []
    names = ordered([name for *_, versus in listed for name in versus])
    rows = [
        [split, f"`{method}`", str(shots), *(versus.get(name, "") for name in names)]
        for split, method, shots, versus in listed
    ]
    return [
        "## Differences",
        DIFFERENCES,
        _table(["split", "method", "shots", *(f"minus `{name}`" for name in names)], rows),
    ]


def _costs(report: Report) -> list[str]:
    listed = costs(report)
    if not listed:
        return []
    rows = [[split, f"`{method}`", str(shots), *texts] for split, method, shots, texts in listed]
    head = ["split", "method", "shots", *COST_HEAD]
    return ["## Calibration and cost", COST_NOTE, _table(head, rows)]


def _selections(report: Report) -> list[str]:
    lines = selection_lines(report)
    if not lines:
        return []
    return ["## Settings", selection_note(report), "\n".join(f"- {_plain(line)}" for line in lines)]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _plain(text: object) -> str:
    """The text on one line, with what Markdown or HTML would read as markup made literal."""
    line = " ".join(str(text).split())
    for mark in "\\`*[]<>|#":
        line = line.replace(mark, "\\" + mark)
    return line
