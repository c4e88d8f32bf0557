"""``report.html``: one page that needs nothing but itself."""

from typing import Any

from fsclip_jax.report import plots
from fsclip_jax.report.closer_look import closer_look
from fsclip_jax.report.page import render
from fsclip_jax.report.plots_cost import cost_panels
from fsclip_jax.report.rows import Report, ordered
from fsclip_jax.report.sentences import facts, selection_lines
from fsclip_jax.report.styles import Style, styles
from fsclip_jax.report.tables import (
    COST_HEAD,
    COST_NOTE,
    called,
    costs,
    differences,
    headline,
    interval_line,
    leading,
    main_table,
    percent,
    protocol_line,
    selection_note,
    tables,
    tied,
)


def report_to_html(report: Report) -> str:
    """Draw a report as a page: no script, no outside reference, light and dark.

    Every text that came from the report is escaped by the template; the plots are drawn here and
    are the only markup that is passed through.

    Args:
        report: the report.

    Returns:
        The whole page.
    """
    from markupsafe import Markup

    shown = tables(report)
    listed = differences(report)
    methods = ordered([row.method for row in report.rows])
    look = styles(methods, leading(report))
    main = main_table(report)
    shots = main.shots[-1]
    values: dict[str, Any] = {
        "title": f"Few-shot accuracy on {report.data.get('spec')}",
        "headline": headline(report),
        "protocol": protocol_line(report),
        "intervals": interval_line(report),
        "warnings": report.warning,
        "tables": shown,
        "tied": {table.split: tied(table) for table in shown},
        "panels": {t.split: Markup(plots.panel(report, t.split)) for t in shown},
        "n_methods": max(len(table.methods) for table in shown),
        "percent": percent,
        "styles": look,
        "differences": listed,
        "references": ordered([name for *_, versus in listed for name in versus]),
        "costs": costs(report),
        "cost_plots": [(name, Markup(svg)) for name, svg in cost_panels(main, look)],
        "cost_where": f"{called(main.split)}, {shots} shot{'' if shots == 1 else 's'},",
        "cost_head": COST_HEAD,
        "cost_note": COST_NOTE,
        "selections": selection_lines(report),
        "selection_note": selection_note(report),
        "facts": facts(report),
    }
    return render("report.html.j2", values | _details(report, look) | {"links": _links(report)})


def _details(report: Report, look: dict[str, Style]) -> dict[str, Any]:
    """Values of the closer look."""
    css = {method: style.css for method, style in look.items()}
    if report.details is None:
        return {"d": None, "css": css, "look": {}}
    return {"d": report.details, "css": css, "look": closer_look(report.details, css)}


def _links(report: Report) -> list[tuple[str, str]]:
    """The sections that the page has."""
    details = report.details
    every = (
        ("accuracy", "Accuracy", True),
        ("classes", "Class by class", details and details.changes and details.changes.change),
        ("attention", "Attention", details and details.attention),
        ("confusions", "Confusions", details and details.confusions),
        ("mistakes", "Mistakes", details and details.mistakes),
        ("calibration", "Calibration", details and details.reliability),
        ("cost", "Cost", costs(report)),
        ("settings", "Settings", selection_lines(report)),
        ("facts", "How it was measured", True),
    )
    return [(place, name) for place, name, there in every if there]
