"""``fsclip report``: draw the pages of a report again from its ``report.json``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fsclip_jax.cli.parsing import parse


@dataclass(frozen=True)
class ReportConfig:
    """Draw report.md, report.html and accuracy.svg from report.json alone."""

    report: Annotated[Path, tyro.conf.Positional]
    """The report.json that `fsclip eval` wrote, or the folder that holds it."""
    out: Path | None = None
    """Folder of the pages; beside report.json if not given."""


def main(args: Sequence[str]) -> int:
    """Run the command.

    Args:
        args: the words after ``fsclip report``.

    Returns:
        0, the exit code.

    Raises:
        UserError: there is no report, or it cannot be read.
    """
    description = "Draw report.md, report.html and accuracy.svg again from a report.json."
    return run(parse(ReportConfig, args, prog="fsclip report", description=description))


def run(config: ReportConfig) -> int:
    """Draw the pages and print the table.

    Args:
        config: which report, and where to.

    Returns:
        0, the exit code.

    Raises:
        UserError: there is no report, or it cannot be read.
    """
    from rich.console import Console

    from fsclip_jax.evaluation.report import draw_report, read_report
    from fsclip_jax.evaluation.terminal import print_report

    report = read_report(config.report)
    beside = config.report if config.report.is_dir() else config.report.parent
    folder = config.out or beside
    console = Console()
    files = draw_report(report, folder)
    print_report(report, console)
    console.print(
        f"wrote {', '.join(file.name for file in files)} to {folder}", markup=False, highlight=False
    )
    return 0
