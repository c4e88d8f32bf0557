"""A report as files: the JSON, and the pages that are drawn from it."""

from pathlib import Path

from fsclip_jax.durable import write_text
from fsclip_jax.report.html import report_to_html
from fsclip_jax.report.markdown import report_to_markdown
from fsclip_jax.report.plots import accuracy_figure
from fsclip_jax.report.rows import Report, read_report, report_to_json


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write the report in all its formats.

    Args:
        report: the report.
        folder: where to; made if it is missing.

    Returns:
        The files: ``report.json``, ``report.md``, ``report.html`` and ``accuracy.svg``.

    Raises:
        UserError: the folder cannot be written to.
    """
    path = folder / "report.json"
    write_text(path, report_to_json(report))
    # Drawn from what was written, so that `fsclip report` makes the very same pages later.
    return [path, *draw_report(read_report(path), folder)]


def draw_report(report: Report, folder: Path) -> list[Path]:
    """Write the pages of a report, but not its JSON.

    Args:
        report: the report.
        folder: where to.

    Returns:
        The files: ``report.md``, ``report.html`` and ``accuracy.svg``.

    Raises:
        UserError: the folder cannot be written to.
    """
    pages = {
        "report.md": report_to_markdown(report),
        "report.html": report_to_html(report),
        "accuracy.svg": accuracy_figure(report),
    }
    for name, text in pages.items():
        write_text(folder / name, text)
    return [folder / name for name in pages]
