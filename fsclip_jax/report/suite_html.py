"""``suite.html``: many data sets on one page that needs nothing but itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsclip_jax.durable import write_text
from fsclip_jax.report.page import render
from fsclip_jax.report.plots import table_panel
from fsclip_jax.report.rows import Accuracy, Row, ordered
from fsclip_jax.report.styles import Style, styles
from fsclip_jax.report.suite import StoredSuite
from fsclip_jax.report.tables import SPLIT_TITLES, Table, called, near_best, percent, table_of

AVERAGE = "average"
"""Name of the column of means."""


@dataclass(frozen=True)
class Column:
    """One column of a table of methods: accuracies, the best, and those that tie with it."""

    title: str
    cells: Mapping[str, Accuracy]
    best: frozenset[str]
    tied: frozenset[str]


@dataclass(frozen=True)
class Grid:
    """A table of methods by columns, under a title, with or without intervals in its cells."""

    title: str
    methods: tuple[str, ...]
    columns: tuple[Column, ...]
    intervals: bool = False


def column(title: str, cells: Mapping[str, Accuracy]) -> Column:
    """Mark the best of some methods, and those that luck alone could have put behind it.

    Args:
        title: head of the column.
        cells: accuracy of each method that has one.

    Returns:
        The column; with a single method nothing is marked.
    """
    means = {method: round(each.mean, 2) for method, each in cells.items()}
    top = max(means.values(), default=0.0)
    names = [name for name, mean in means.items() if mean == top] if len(means) > 1 else []
    best = frozenset(names)
    return Column(title, cells, best, near_best(cells, best))


def suite_to_html(suite: StoredSuite) -> str:
    """Draw a suite as a page: no script, no outside reference, light and dark.

    Args:
        suite: what ``suite.json`` holds.

    Returns:
        The whole page.
    """
    from markupsafe import Markup

    every = [row for found in suite.rows.values() for rows in found.values() for row in rows]
    methods = ordered([row.method for row in every])
    parts, leads = [], []
    for number, place in enumerate(suite.rows):
        mean = table_of(place[1], AVERAGE, suite.means.get(place, ()))
        tables = {name: _table(suite, place, name) for name in suite.rows[place]}
        shown = mean if mean.cells and len(suite.data) > 1 else next(iter(tables.values()))
        label = f"Accuracy against shots, {shown.title}, {place[1]}"
        look = styles(methods, _ahead(shown))
        leads.append(_lead(shown, place, len(suite.data)))
        parts.append(
            {
                "id": f"part{number}",
                "title": _title(place, suite),
                "grids": _grids(suite, mean, tables),
                "main": Markup(table_panel(shown, look, label, f"m{number}")),
                "main_title": _mean_title(shown, suite),
                "panels": _panels(tables, look, number) if len(tables) > 1 else [],
                "styles": look,
            }
        )
    values: dict[str, Any] = {
        "title": f"Few-shot accuracy on {len(suite.data)} data set{'s' * (len(suite.data) > 1)}",
        "leads": leads,
        "suite": suite,
        "parts": parts,
        "percent": percent,
        "n_methods": len(methods),
    }
    return render("suite.html.j2", values)


def _table(suite: StoredSuite, place: tuple[str, str], name: str) -> Table:
    return table_of(place[1], name, suite.rows[place][name])


def _panels(
    tables: Mapping[str, Table], look: Mapping[str, Style], number: int
) -> list[tuple[str, Any]]:
    """A small panel of every data set."""
    from markupsafe import Markup

    return [
        (
            name,
            Markup(table_panel(table, look, f"Accuracy on {name}", f"p{number}-{i}", names=False)),
        )
        for i, (name, table) in enumerate(tables.items())
    ]


def _ahead(table: Table) -> frozenset[str]:
    """The methods that are ahead at the largest number of shots."""
    shots = table.shots[-1]
    return table.best[shots] or frozenset(table.methods[:1])


def _grids(suite: StoredSuite, mean: Table, tables: Mapping[str, Table]) -> list[Grid]:
    """The averages by shots, then for every number of shots the data sets; most shots first."""
    methods = ordered([m for table in [*tables.values(), mean] for m in table.methods])
    shots = sorted({s for table in tables.values() for s in table.shots})
    averages = {s: _cells(mean, s) for s in shots}
    grids = []
    if len(suite.data) > 1 and mean.cells:
        columns = tuple(column(_shots(s), averages[s]) for s in shots)
        title = f"Average over {len(suite.data)} data sets"
        grids.append(Grid(title, tuple(methods), columns, intervals=True))
    for s in reversed(shots):
        columns = tuple(column(name, _cells(table, s)) for name, table in tables.items())
        if len(suite.data) > 1:
            columns += (column(AVERAGE, averages[s]),)
        grids.append(Grid(_shots(s), tuple(methods), columns))
    return grids


def _cells(table: Table, shots: int) -> dict[str, Accuracy]:
    rows: dict[str, Row] = {m: r for (m, s), r in table.cells.items() if s == shots}
    return {method: row.accuracy for method, row in rows.items()}


def _shots(shots: int) -> str:
    return f"{shots} shot{'' if shots == 1 else 's'}"


def _title(place: tuple[str, str], suite: StoredSuite) -> str:
    backbone, split = place
    several = len({backbone for backbone, _ in suite.rows}) > 1
    name = SPLIT_TITLES.get(split, split)
    return f"{name}, {backbone}" if several else name


def _mean_title(table: Table, suite: StoredSuite) -> str:
    if table.title == AVERAGE and len(suite.data) > 1:
        return f"Average over {len(suite.data)} data sets"
    return table.title


def _lead(table: Table, place: tuple[str, str], n_data: int) -> str:
    """Say in one sentence which method is ahead at the largest number of shots."""
    shots = table.shots[-1]
    rows: Sequence[Row] = [
        table.cells[m, shots] for m in table.methods if (m, shots) in table.cells
    ]
    top = max(rows, key=lambda row: row.accuracy.mean)
    where = "" if place[1] == "test" else f" on {called(place[1])}"
    over = f"Averaged over {n_data} data sets" if table.title == AVERAGE else f"On {table.title}"
    images = "image" if shots == 1 else "images"
    line = (
        f"{over}, with {shots} labelled {images} per class, {top.method} is ahead{where}: "
        f"{percent(top.accuracy.mean, top.accuracy.ci95)} %"
    )
    zero = table.cells.get(("zero_shot", shots))
    if zero is None or top is zero:
        return f"{line} ({place[0]})."
    gain = top.accuracy.mean - zero.accuracy.mean
    return f"{line}, {gain:+.2f} points against zero-shot CLIP ({place[0]})."


def draw_suite(suite: StoredSuite, folder: Path) -> Path:
    """Write ``suite.html``.

    Args:
        suite: what ``suite.json`` holds.
        folder: where to; made if it is missing.

    Returns:
        The file.

    Raises:
        UserError: the folder cannot be written to.
    """
    path = folder / "suite.html"
    write_text(path, suite_to_html(suite))
    return path
