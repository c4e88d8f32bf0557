"""``report.html``: one page that needs nothing but itself."""

from typing import Any

from fsclip_jax.report import plots
from fsclip_jax.report.closer_look import closer_look
from fsclip_jax.report.names import counted_title
from fsclip_jax.report.page import render
from fsclip_jax.report.plots_cost import cost_panels
from fsclip_jax.report.plots_training import training_panels
from fsclip_jax.report.rows import Report, ordered
from fsclip_jax.report.sentences import (
    facts,
    group_note,
    headline,
    interval_line,
    protocol_line,
    selection_lines,
    selection_note,
    title,
)
from fsclip_jax.report.shots import shots_phrase
from fsclip_jax.report.styles import Style, styles
from fsclip_jax.report.tables import (
    differences,
    grid_of,
    leading,
    main_table,
    other_numbers,
    tables,
)


def report_to_html(report: Report) -> str:
    """Draw a report as a page: no script, no outside reference, light and dark.

    Every text that came from the report is escaped by the template; the plots are drawn here and
    are the only markup that is passed through.
    """
    from markupsafe import Markup

    main = main_table(report)
    shown = sorted(tables(report), key=lambda table: table.split != main.split)
    look = styles(ordered([row.method for row in report.rows]), leading(report))
    values: dict[str, Any] = {
        "title": title(report),
        "data_title": counted_title(report.data),
        "headline": headline(report),
        "protocol": protocol_line(report),
        "intervals": interval_line(report),
        "warnings": report.warning,
        "metric": main.metric,
        "splits": [
            {
                "grid": grid_of(table),
                "plot": Markup(plots.table_panel(table, look, table.split)),
                "note": group_note(report, table),
            }
            for table in shown
        ],
        "n_methods": max(len(table.methods) for table in shown),
        "styles": look,
        "differences": differences(report),
        "others": other_numbers(report.rows),
        "cost_plots": [(name, Markup(svg)) for name, svg in cost_panels(main, look)],
        "cost_where": f"{main.where}, {shots_phrase(main.shots[-1])},",
        "training": [
            (name, Markup(svg))
            for at, curve in enumerate(report.training)
            for name, svg in training_panels(curve, f"training-{at}")
        ],
        "selections": selection_lines(report),
        "selection_note": selection_note(report),
        "facts": facts(report),
    }
    values |= _details(report, look)
    return render("report.html.j2", values | {"links": _links(report, values)})


def _details(report: Report, look: dict[str, Style]) -> dict[str, Any]:
    """Values of the closer look."""
    css = {method: style.css for method, style in look.items()}
    if report.details is None:
        return {"d": None, "css": css, "look": {}}
    where = next((t.where for t in tables(report) if t.split == report.details.split), "")
    return {"d": report.details, "css": css, "look": closer_look(report.details, css, where)}


def _links(report: Report, values: dict[str, Any]) -> list[tuple[str, str]]:
    """The sections that the page has."""
    details, metric = report.details, values["metric"]
    every = (
        ("accuracy", metric.title.capitalize(), True),
        ("classes", "Class by class", details and details.changes and details.changes.change),
        ("attention", "Attention", details and details.attention),
        ("confusions", "Confusions", details and details.confusions),
        ("mistakes", "Mistakes", details and details.mistakes),
        ("calibration", "Calibration", details and details.reliability),
        ("cost", "Other numbers", values["others"].lines),
        ("training", "Training", values["training"]),
        ("settings", "Settings", values["selections"]),
        ("facts", "How it was measured", True),
    )
    return [(place, name) for place, name, there in every if there]
