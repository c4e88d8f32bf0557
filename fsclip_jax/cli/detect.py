"""``fsclip detect``: few-shot methods compared by the average precision of their detections."""

from collections.abc import Sequence

from fsclip_jax.cli.parsing import command_line, parse
from fsclip_jax.detection.config import DetectConfig


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    config = parse(DetectConfig, argv, prog="fsclip detect")
    from rich.console import Console

    from fsclip_jax.detection.compare import compare_detections

    compare_detections(config, Console(highlight=False), command_line())
    return 0
