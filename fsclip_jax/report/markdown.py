"""``report.md``: the tables of a report, to be read on a code host or pasted into a paper draft."""

import re
from collections.abc import Iterable, Sequence

from fsclip_jax.printable import printable
from fsclip_jax.report.metrics import number_parts
from fsclip_jax.report.names import method_title
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
    split_word,
    tables,
)

_MARKUP = re.compile(r"[\\`*\[\]<>|#~$]|&(?=\w|#)|(?<!\w)_|_(?!\w)")


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
        _table(["fact", "value"], [[plain(name), code(text)] for name, text in facts(report)]),
    ]
    return "\n\n".join(parts) + "\n"


def grid_table(grid: MethodGrid) -> str:
    """Draw methods by columns; the best of every column is bold."""
    rows = []
    for method in grid.methods:
        cells = [plain(method_title(method))]
        for column in grid.columns:
            cell = column.cells.get(method)
            parts = number_parts(cell.mean, cell.ci95, grid.metric.digits) if cell else ("", "")
            text = " ±".join(parts) if grid.intervals and parts[1] else parts[0]
            cells.append(f"**{text}**" if method in column.best else text)
        rows.append(cells)
    return _table(["method", *(plain(column.title) for column in grid.columns)], rows)


def listing(title: str, listed: Listing) -> list[str]:
    """Draw a line a row, under a title; nothing where there is no line."""
    if not listed.lines:
        return []
    rows = [
        [plain(split_word(row.split)), plain(method_title(row.method)), str(row.shots), *texts]
        for row, texts in listed.lines
    ]
    table = _table(["split", "method", "shots", *map(plain, listed.head)], rows)
    return [f"## {title}", *([listed.note] if listed.note else []), table]


def _selections(report: Report) -> list[str]:
    lines = selection_lines(report)
    if not lines:
        return []
    return [
        "## Settings",
        plain(selection_note(report)),
        "\n".join(f"- {plain(line)}" for line in lines),
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay cells out as a table; what is in them is ``plain`` or ``code``, or a number."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: object) -> str:
    r"""The text on one line, with what Markdown or HTML would read as markup made literal.

    Example:
        >>> plain("<b> *new* meta_adapter")
        '\\<b\\> \\*new\\* meta_adapter'
    """
    return _MARKUP.sub(r"\\\g<0>", printable(" ".join(str(text).split())))


def code(text: object) -> str:
    r"""The text on one line between marks of code, in which nothing is read as markup.

    Example:
        >>> code("tip_adapter"), code("a`b|c")
        ('`tip_adapter`', '``a`b\\|c``')
    """
    line = printable(" ".join(str(text).split())).replace("|", "\\|") or " "
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence, space = "`" * (longest + 1), " " * (line[:1] == "`" or line[-1:] == "`")
    return f"{fence}{space}{line}{space}{fence}"
