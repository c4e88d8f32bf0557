"""``suite.html``: many data sets on one page that needs nothing but itself."""

from typing import Any

from fsclip_jax.report.page import render
from fsclip_jax.report.plots import table_panel
from fsclip_jax.report.rows import ordered
from fsclip_jax.report.styles import styles
from fsclip_jax.report.suite import StoredSuite
from fsclip_jax.report.suite_tables import (
    AVERAGE,
    Part,
    draws_line,
    parts_of,
    suite_facts,
    suite_title,
    troubles,
)


def suite_to_html(suite: StoredSuite) -> str:
    """Draw a suite as a page: no script, no outside reference, light and dark."""
    parts = parts_of(suite)
    methods = ordered([m for part in parts for grid in part.grids for m in grid.methods])
    values: dict[str, Any] = {
        "title": suite_title(suite, parts),
        "draws": draws_line(suite),
        "suite": suite,
        "parts": [_drawn(part, number, methods) for number, part in enumerate(parts)],
        "average": AVERAGE,
        "troubles": troubles(suite),
        "facts": suite_facts(suite),
        "n_methods": len(methods),
    }
    return render("suite.html.j2", values)


def _drawn(part: Part, number: int, methods: list[str]) -> dict[str, Any]:
    """A part with its plots: the average large, every data set small."""
    from markupsafe import Markup

    shown = part.mean or next(iter(part.tables.values()))
    look = styles(methods, shown.best[shown.shots[-1]] or shown.methods[:1])
    label = f"{part.metric.title.capitalize()} against shots, {shown.title}, {shown.split}"
    small = [
        (name, f"{part.metric.title.capitalize()} on {name}", f"p{number}-{i}")
        for i, name in enumerate(part.tables)
    ]
    return {
        "id": f"part{number}",
        "of": part,
        "main": Markup(table_panel(shown, look, label, f"m{number}")),
        "main_title": part.grids[0].title if part.mean else shown.title,
        "panels": [
            (name, Markup(table_panel(part.tables[name], look, text, prefix, names=False)))
            for name, text, prefix in (small if len(small) > 1 else [])
        ],
        "styles": look,
    }
