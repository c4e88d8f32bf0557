"""``fsclip segment``: a class for every pixel, method against method."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fsclip_jax.cli.parsing import parse


@dataclass(frozen=True)
class SegmentConfig:
    """Give every pixel of scenes a class, method against method."""

    scenes: Path
    """Folder made by `fsclip scenes`."""
    out: Path
    """Folder for segmentation.json."""
    methods: tuple[str, ...] = ("zero_shot", "tip_adapter", "meta_adapter")
    """The methods; a meta-learned one without --checkpoint takes part untrained."""
    shots: tuple[int, ...] = (1, 2, 4)
    """Labelled objects of each class."""
    seeds: int = 3
    """Draws of the labelled objects."""
    checkpoint: tuple[Path, ...] = ()
    """Workdirs of `fsclip train`, one a meta-learned method."""
    backbone: str = "mini"
    """The CLIP: mini, a Hugging Face id, or a local folder."""
    windows: tuple[int, ...] = ()
    """Sides of the windows that are laid over a picture, in its pixels; chosen by the CLIP unless
    given."""
    segments: bool = True
    """Give each segment of a picture, cut along its edges, one class."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    config = parse(SegmentConfig, argv, prog="fsclip segment")
    from fsclip_jax.segmentation.run import segment_scenes, table

    whole = segment_scenes(
        config.scenes,
        config.out,
        methods=config.methods,
        shots=config.shots,
        seeds=config.seeds,
        backbone=config.backbone,
        checkpoints=config.checkpoint,
        windows=config.windows,
        segments=config.segments,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(table(whole["results"]))
    print("mean intersection over union on test, percent, ± 95 % over draws of the support")
    print(config.out / "segmentation.json")
    return 0
