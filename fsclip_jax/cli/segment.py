"""``fsclip segment``: a class for every pixel, method against method."""

import sys
from collections.abc import Sequence

from fsclip_jax.cli.parsing import command_line, parse
from fsclip_jax.errors import say
from fsclip_jax.printable import printable
from fsclip_jax.segmentation.config import SegmentConfig


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    config = parse(SegmentConfig, argv, prog="fsclip segment")
    from rich.console import Console

    from fsclip_jax.report.terminal import print_report
    from fsclip_jax.segmentation.run import segment_scenes

    def progress(line: str) -> None:
        print(printable(line), file=sys.stderr, flush=True)

    report = segment_scenes(config, command_line(), progress)
    console = Console(highlight=False)
    print_report(report, console)
    say(f"wrote report.json and its pages to {config.out}")
    return 0
