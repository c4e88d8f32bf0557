"""``fsclip report``: draw the pages of a report, or of a suite, again from its JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fsclip_jax.cli.parsing import parse
from fsclip_jax.errors import say


@dataclass(frozen=True)
class ReportConfig:
    """Draw the pages of a stored comparison from its JSON alone."""

    report: Annotated[Path, tyro.conf.Positional]
    """The report.json that `fsclip eval`, `detect` or `segment` wrote, the suite.json that `fsclip
    suite` wrote, or the folder that holds it."""
    out: Path | None = None
    """Folder of the pages; beside the JSON if not given."""


def main(args: Sequence[str]) -> int:
    """Draw the pages and print the table."""
    config = parse(ReportConfig, args, prog="fsclip report")
    from rich.console import Console

    from fsclip_jax.durable import only_writer
    from fsclip_jax.report.rows import read_report
    from fsclip_jax.report.suite import read_suite
    from fsclip_jax.report.terminal import print_report
    from fsclip_jax.report.write import draw_report, draw_suite

    path, console = config.report, Console()
    folder = config.out or (path if path.is_dir() else path.parent)
    writing = only_writer(folder, ".report.lock", "is drawing pages", "--out")
    if path.name == "suite.json" or _only_suite(path):
        suite = read_suite(path)
        with writing:
            files = draw_suite(suite, folder)
    else:
        report = read_report(path)
        with writing:
            files = draw_report(report, folder)
        print_report(report, console)
    say(f"wrote {', '.join(file.name for file in files)} to {folder}")
    return 0


def _only_suite(folder: Path) -> bool:
    """Whether a folder holds the results of a suite and not those of an evaluation."""
    return (folder / "suite.json").is_file() and not (folder / "report.json").is_file()
