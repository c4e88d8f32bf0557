"""What a comparison of segmentations is made from; light, so that ``--help`` answers at once."""

from dataclasses import dataclass
from pathlib import Path

from fsclip_jax.errors import UserError, require_extra


@dataclass(frozen=True)
class SegmentConfig:
    """Give every pixel of scenes a class, method against method."""

    scenes: Path
    """Folder made by `fsclip scenes`."""
    out: Path
    """Folder for report.json and its pages."""
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


def check_segment_config(config: SegmentConfig) -> None:
    """Refuse numbers that are not accepted and missing packages, before anything is read."""
    if config.segments:
        require_extra(["skimage.segmentation"], "detection", "segment")
    if not config.shots or min(config.shots) < 1 or config.seeds < 1:
        raise UserError(
            f"--shots {list(config.shots)} --seeds {config.seeds}: give 1 or more of each"
        )
    if any(window < 8 for window in config.windows):
        raise UserError(f"--windows {list(config.windows)}: give 8 pixels or more")
