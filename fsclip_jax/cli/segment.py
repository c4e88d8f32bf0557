"""``fsclip segment``: a class for every pixel, method against method."""

import sys
from collections.abc import Sequence

from fsclip_jax.cli.parsing import command_line, parse
from fsclip_jax.segmentation.config import SegmentConfig


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    config = parse(SegmentConfig, argv, prog="fsclip segment")
    from rich.console import Console

    from fsclip_jax.report.terminal import print_report
    from fsclip_jax.segmentation.run import segment_scenes

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    report = segment_scenes(config, command_line(), say)
    console = Console(highlight=False)
    print_report(report, console)
    console.print(f"wrote report.json and its pages to {config.out}", soft_wrap=True)
    return 0
