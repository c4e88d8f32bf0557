"""A report as files: the JSON, and the pages that are drawn from it."""

from collections.abc import Mapping
from pathlib import Path

from fsclip_jax.durable import write_text
from fsclip_jax.report.html import report_to_html
from fsclip_jax.report.markdown import report_to_markdown
from fsclip_jax.report.plots import report_figure
from fsclip_jax.report.rows import Report, read_report, report_to_json
from fsclip_jax.report.suite import StoredSuite
from fsclip_jax.report.suite_html import suite_to_html
from fsclip_jax.report.suite_markdown import suite_to_markdown
from fsclip_jax.report.tables import metric_of


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write the report in all its formats; the folder is made if it is missing.

    Raises:
        UserError: the folder cannot be written to.
    """
    path = folder / "report.json"
    write_text(path, report_to_json(report))
    # Drawn from what was written, so that `fsclip report` makes the very same pages later.
    return [path, *draw_report(read_report(path), folder)]


def draw_report(report: Report, folder: Path) -> list[Path]:
    """Write the pages of a report but not its JSON: Markdown, HTML, a plot named for its content.

    Raises:
        UserError: the folder cannot be written to.
    """
    pages = {
        "report.md": report_to_markdown(report),
        "report.html": report_to_html(report),
        f"{metric_of(report.rows).name}.svg": report_figure(report),
    }
    return _write(pages, folder)


def draw_suite(suite: StoredSuite, folder: Path) -> list[Path]:
    """Write the pages of a suite, ``suite.md`` and ``suite.html``, but not its JSON.

    Raises:
        UserError: the folder cannot be written to.
    """
    pages = {"suite.md": suite_to_markdown(suite), "suite.html": suite_to_html(suite)}
    return _write(pages, folder)


def _write(pages: Mapping[str, str], folder: Path) -> list[Path]:
    for name, text in pages.items():
        write_text(folder / name, text)
    return [folder / name for name in pages]
