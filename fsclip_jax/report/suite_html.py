"""``suite.html``: many data sets on one page that needs nothing but itself."""

from typing import Any

from fsclip_jax.report.measured import AVERAGE
from fsclip_jax.report.page import render
from fsclip_jax.report.plots import table_panel
from fsclip_jax.report.rows import ordered
from fsclip_jax.report.styles import styles
from fsclip_jax.report.suite import StoredSuite
from fsclip_jax.report.suite_tables import (
    SuitePart,
    draws_line,
    parts_of,
    suite_facts,
    suite_heads,
    suite_title,
    troubles,
)
from fsclip_jax.report.tables import grid_of


def suite_to_html(suite: StoredSuite) -> str:
    """Draw a suite as a page: no script, no outside reference, light and dark."""
    parts = parts_of(suite)
    methods = ordered([m for part in parts for grid in part.grids for m in grid.methods])
    kind, head = suite_heads(suite, parts)
    values: dict[str, Any] = {
        "title": suite_title(suite, parts),
        "kind": kind,
        "head": head,
        "draws": draws_line(suite),
        "suite": suite,
        "parts": [_drawn(part, number, methods) for number, part in enumerate(parts)],
        "average": AVERAGE,
        "troubles": troubles(suite),
        "facts": suite_facts(suite),
        "n_methods": len(methods),
    }
    return render("suite.html.j2", values)


def _drawn(part: SuitePart, number: int, methods: list[str]) -> dict[str, Any]:
    """A part with its plots: the average large, every data set small."""
    from markupsafe import Markup

    shown = part.mean or next(iter(part.tables.values()))
    best = grid_of(shown).columns[-1].best
    look = styles(methods, best or shown.methods[:1])
    small = part.tables if len(part.tables) > 1 else {}
    return {
        "id": f"part{number}",
        "of": part,
        "main": Markup(table_panel(shown, look, f"m{number}")),
        "main_title": part.grids[0].title if part.mean else shown.title,
        "main_grid": grid_of(shown),
        # Of a single data set the grid beside the plot says all.
        "grids": part.grids[1:] if part.mean else part.grids if len(part.tables) > 1 else (),
        "panels": [
            (table.title, Markup(table_panel(table, look, f"p{number}-{i}", names=False)))
            for i, table in enumerate(small.values())
        ],
        "styles": look,
    }
