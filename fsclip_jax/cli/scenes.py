"""``fsclip scenes``: an offline task for detection and segmentation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fsclip_jax.cli.parsing import parse


@dataclass(frozen=True)
class ScenesConfig:
    """What ``fsclip scenes`` takes."""

    out: Path
    """Folder to make."""
    seed: int = 0
    """Seed of all that is random: the same seed gives the same files."""
    images: int = 160
    """Scenes of the test split; train and val have half as many."""


def main(argv: Sequence[str]) -> int:
    """Run ``fsclip scenes`` and return its exit code.

    Args:
        argv: the words after ``fsclip scenes``.
    """
    text = "Compose scenes of the bundled art with boxes and masks: --out DIR"
    config = parse(ScenesConfig, argv, prog="fsclip scenes", description=text)
    from fsclip_jax.scenes.build import build_scenes

    summary = build_scenes(config.out, seed=config.seed, images=config.images)
    for split, counts in summary.items():
        print(f"{split:<8}" + ", ".join(f"{value} {name}" for name, value in counts.items()))
    print(config.out)
    return 0
