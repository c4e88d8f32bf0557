"""``fsclip predict``: labelled pictures and other pictures to a table of predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fsclip_jax.cli.parsing import parse
from fsclip_jax.errors import UserError


@dataclass(frozen=True)
class PredictConfig:
    """Classify pictures by a folder of labelled ones."""

    support: Path
    """Folder of labelled pictures, one sub-folder per class."""
    images: tuple[Path, ...]
    """The pictures to classify: files, and folders with their sub-folders."""
    out: Path = Path("predictions.csv")
    """Table to write. An interrupted run is continued by the same command."""
    checkpoint: Path | None = None
    """Workdir of `fsclip train`, or a published state dict (.pt, .pth, .safetensors)."""
    method: str | None = None
    """The method: the checkpoint's, or linear_probe where there is none."""
    backbone: str | None = None
    """The CLIP: that of the checkpoint, or mini, unless given."""
    shots: int | None = None
    """Labelled pictures of each class at most; all unless given."""
    top: int = 5
    """Classes to list for each picture."""
    unknown: float = 0.0
    """The label is `unknown` where no class is as probable as this."""
    templates: Literal["single", "ensemble"] = "single"
    """Prompts: one template, or seven averaged."""
    prompt_file: Path | None = None
    """JSON of class -> sentences that describe it, in place of the templates."""
    calibrate: bool = True
    """Fit a temperature to labelled pictures that are held out in turn."""
    workers: int | None = None
    """Processes that decode; 0 takes threads. Chosen by the number of pictures unless given."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    return run(parse(PredictConfig, argv, prog="fsclip predict"))


def run(config: PredictConfig) -> int:
    """Fit to the labelled pictures and write a line for every other one.

    Raises:
        UserError: the input is wrong, or another run writes the same table.
    """
    if not 0 <= config.unknown <= 1:
        raise UserError(f"--unknown is {config.unknown}; give a probability from 0 to 1")
    if config.top < 1:
        raise UserError(f"--top is {config.top}; give 1 or more")
    from fsclip_jax.data.folder import list_pictures
    from fsclip_jax.prediction.run import fit_folder, write_predictions
    from fsclip_jax.prediction.table import held, refuse_finished

    keys = list_pictures(config.images)
    with held(config.out):
        refuse_finished(config.out)
        ready = fit_folder(
            config.support,
            backbone=config.backbone,
            method=config.method,
            checkpoint=config.checkpoint,
            shots=config.shots,
            templates=config.templates,
            prompt_file=config.prompt_file,
            calibrate=config.calibrate,
        )
        print(ready.describe())
        written, lost, unknown = write_predictions(
            ready, keys, config.out, config.top, config.unknown, config.workers
        )
    unread = f", {lost} unreadable" if lost else ""
    unsure = f", {unknown} unknown" if config.unknown else ""
    print(f"{config.out}: {written} predictions{unsure}{unread}")
    return 0
