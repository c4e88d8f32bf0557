"""What a comparison of detections is made from."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fsclip_jax.errors import UserError, require_extra


@dataclass(frozen=True)
class DetectConfig:
    """Compare methods on boxes: of --scenes DIR, or of --images, --annotations and so on."""

    out: Path
    """Folder for report.json, its pages, and the detections of every method, in COCO's layout."""
    scenes: Path | None = None
    """Folder of `fsclip scenes`: stands for all the paths below."""
    images: Path | None = None
    """Folder of the pictures to detect in."""
    annotations: Path | None = None
    """Their boxes, in the layout of COCO or LVIS; to judge by."""
    proposals: Path | None = None
    """Where objects may be, in the layout of COCO's results; an OWL-ViT needs none."""
    support_annotations: Path | None = None
    """Boxes that the support is drawn from."""
    support_images: Path | None = None
    """Folder of their pictures; that of --images unless given."""
    val_annotations: Path | None = None
    """Boxes to choose settings on; without them settings are fixed or chosen on the support."""
    val_images: Path | None = None
    """Folder of their pictures; that of --images unless given."""
    val_proposals: Path | None = None
    """Proposals for the pictures of val."""
    shots: int = 4
    """Annotated boxes of each class."""
    seeds: int = 3
    """Draws of the support."""
    methods: tuple[str, ...] = ("zero_shot", "tip_adapter", "meta_adapter")
    """Methods to compare."""
    backbone: str = "mini"
    """The CLIP that classifies the crops of proposals."""
    crops: tuple[float, ...] = (1.0, 1.5)
    """Sides of the crops of a box, in parts of its own; their features are averaged."""
    detector: str | None = None
    """owlvit:FOLDER, an OWL-ViT in the layout of transformers, in place of --backbone."""
    checkpoint: tuple[Path, ...] = ()
    """Workdirs of `fsclip train`, for meta-learned methods."""


def with_scenes(config: DetectConfig) -> DetectConfig:
    """Fill in the paths that a folder of scenes stands for; those that are given stay.

    Raises:
        UserError: the folder holds no scenes.
    """
    if config.scenes is None:
        return config
    folder = config.scenes
    if not (folder / "test.json").is_file():
        raise UserError(f"{folder} holds no scenes; make some with `fsclip scenes --out {folder}`")
    given: dict[str, Any] = {
        "images": folder / "test" / "images",
        "annotations": folder / "test.json",
        "proposals": folder / "proposals_test.json",
        "support_annotations": folder / "support.json",
        "support_images": folder / "support" / "images",
        "val_annotations": folder / "val.json",
        "val_images": folder / "val" / "images",
        "val_proposals": folder / "proposals_val.json",
    }
    return replace(config, **{k: v for k, v in given.items() if getattr(config, k) is None})


def check(config: DetectConfig) -> None:
    """Refuse flags that are missing or not accepted, before anything is read."""
    require_extra(["pycocotools.cocoeval"], "detection", "detect")
    for name in ("images", "annotations", "support_annotations"):
        if getattr(config, name) is None:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} is missing; give it, or --scenes with a folder of scenes")
    if config.shots < 1 or config.seeds < 1:
        raise UserError(f"--shots {config.shots} --seeds {config.seeds}; give 1 or more of each")
    if not config.crops or not all(0.1 <= scale <= 10 for scale in config.crops):
        raise UserError(f"--crops is {config.crops}; give numbers from 0.1 to 10, such as 1 1.5")
    if config.detector is None and config.proposals is None:
        raise UserError("--proposals is missing; a CLIP classifies given boxes, it finds none")
