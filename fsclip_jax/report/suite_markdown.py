"""``suite.md``: the tables of a suite, a row a method and a column a data set."""

from fsclip_jax.report.markdown import markdown_table, plain
from fsclip_jax.report.metrics import with_interval
from fsclip_jax.report.suite import StoredSuite
from fsclip_jax.report.suite_tables import (
    Part,
    SuiteGrid,
    draws_line,
    parts_of,
    suite_title,
    troubles,
)


def suite_to_markdown(suite: StoredSuite) -> str:
    """Draw a suite as Markdown; intervals and every draw are in ``suite.json``."""
    parts = parts_of(suite)
    settings = f"{suite.protocol}, settings chosen on {suite.settings.get('select')}"
    listed = troubles(suite)
    lines = [
        f"# {plain(suite_title(suite, parts))}",
        *(plain(part.lead) for part in parts),
        f"{plain(settings)}. {draws_line(suite)} Bold: the best of its column.",
        *(text for part in parts for text in _part(part)),
        *(["## Without a number"] if listed else []),
        *("- " + plain(f"{s}: {cells}: {reason}") for s, reason, _, cells in listed),
        *(["## Note"] if suite.warning else []),
        *(f"- {plain(line)}" for line in suite.warning),
    ]
    return "\n\n".join(lines) + "\n"


def _part(part: Part) -> list[str]:
    parts = []
    for grid in part.grids:
        parts += [f"## {plain(part.title)}: {plain(grid.title)}", _grid(grid, part.metric.digits)]
    if part.others and part.others.metrics:
        rows = [[plain(row.method), str(row.shots), *t] for row, t in part.others.lines]
        table = markdown_table(["method", "shots", *part.others.head], rows)
        parts += [f"## {plain(part.title)}: other averages", part.others.note, table]
    return parts


def _grid(grid: SuiteGrid, digits: int) -> str:
    rows = []
    for method in grid.methods:
        cells = [plain(method)]
        for column in grid.columns:
            cell = column.cells.get(method)
            half = cell.ci95 if cell and grid.intervals else None
            text = with_interval(cell.mean, half, digits) if cell else ""
            cells.append(f"**{text}**" if method in column.best else text)
        rows.append(cells)
    return markdown_table(["method", *(column.title for column in grid.columns)], rows)
