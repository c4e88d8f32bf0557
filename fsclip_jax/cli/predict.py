"""``fsclip predict``: labelled pictures and other pictures to a table of predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fsclip_jax.cli.parsing import parse
from fsclip_jax.errors import UserError, say, tell
from fsclip_jax.prediction.config import FolderFit


@dataclass(frozen=True, kw_only=True)
class PredictConfig(FolderFit):
    """Classify pictures by a folder of labelled ones."""

    support: Path
    """Folder of labelled pictures, one sub-folder per class."""
    images: tuple[Path, ...]
    """The pictures to classify: files, and folders with their sub-folders."""
    out: Path = Path("predictions.csv")
    """Table to write. An interrupted run is continued by the same command."""
    top: int = 5
    """Classes to list for each picture."""
    unknown: Literal["auto"] | float = 0.0
    """Leave the label empty where no class is as probable as this; `auto`: where the picture is
    unlike the labelled ones, by a threshold from those that are held out."""
    workers: int | None = None
    """Processes that decode; 0 takes threads. Chosen by the number of pictures unless given."""
    safe_csv: bool = False
    """Put `'` before names that a spreadsheet would take for formulas."""


def main(argv: Sequence[str]) -> int:
    """Fit to the labelled pictures and write a line for every other one."""
    config = parse(PredictConfig, argv, prog="fsclip predict")
    if config.unknown != "auto" and not 0 <= config.unknown <= 1:
        raise UserError(f"--unknown is {config.unknown}; give auto, or a probability from 0 to 1")
    if config.top < 1:
        raise UserError(f"--top is {config.top}; give 1 or more")
    from fsclip_jax.data.folder import list_pictures
    from fsclip_jax.prediction.run import fit_folder, write_predictions
    from fsclip_jax.prediction.summary import lines_of_fit, lines_of_table, report_place
    from fsclip_jax.prediction.table import held, refuse_finished

    notes: list[str] = []
    keys = list_pictures(config.images, notes)
    tell(notes)
    with held(config.out):
        refuse_finished(config.out)
        report = report_place(config.out)
        ready = fit_folder(config.support, config)
        say(ready.describe(), *lines_of_fit(ready.classifier, ready.quality))
        written = write_predictions(
            ready, keys, config.out, config.top, config.unknown, config.workers,
            safe_csv=config.safe_csv,
        )  # fmt: skip
    say(*lines_of_table(written, config.out), f"report: {report}")
    return 0
