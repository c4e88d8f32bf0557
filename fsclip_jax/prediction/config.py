"""How a classifier of pictures is fitted; light, so that ``--help`` answers at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class FolderFit:
    """What ``fsclip predict`` and ``fsclip export`` fit to a folder of labelled pictures."""

    checkpoint: Path | None = None
    """Workdir of `fsclip train`, `OWNER/NAME` of the Hugging Face hub, or a published state dict
    (.pt, .pth, .safetensors)."""
    method: str | None = None
    """The method: the checkpoint's, or `auto` where there is none: of a short list the best on
    labelled pictures that are held out in turn."""
    backbone: str | None = None
    """The CLIP: that of the checkpoint, or mini, unless given."""
    shots: int | None = None
    """Labelled pictures of each class at most; all unless given."""
    templates: Literal["single", "ensemble"] = "single"
    """Prompts: one template, or seven averaged."""
    prompt_file: Path | None = None
    """JSON of class -> sentences that describe it, in place of the templates."""
    calibrate: bool = True
    """Fit a temperature to labelled pictures that are held out in turn; few bear no certainty."""


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """The table that ``fsclip predict`` writes."""

    out: Path = Path("predictions.csv")
    """Table to write: `.csv`, `.jsonl` or `.parquet`; `-` prints CSV. The same command continues
    it where it was interrupted, and adds pictures that are new."""
    overwrite: bool = False
    """Throw away the table that is there."""
    top: int = 5
    """Classes to list for each picture."""
    unknown: Literal["auto"] | float = 0.0
    """Leave the label empty where no class is as probable as this; `auto`: where the picture is
    unlike the labelled ones, by a threshold from those that are held out."""
    workers: int | None = None
    """Processes that decode; 0 takes threads. Chosen by the number of pictures unless given."""
    safe_csv: bool = False
    """Put `'` before names that a spreadsheet would take for formulas."""


@dataclass(frozen=True, kw_only=True)
class LookConfig:
    """What ``fsclip predict`` does with a table once it is written."""

    html: tuple[Path, ...] | None = None
    """Write a page of the pictures by class, beside the table unless a PATH is given."""
    move_to: Path | None = None
    """Folder to move the pictures into, a sub-folder a class; `fsclip undo` puts them back."""
    link_to: Path | None = None
    """The same with symbolic links: the pictures stay where they are."""
    suggest: int = 0
    """Name so many pictures whose labels would help most."""

    @property
    def sort_to(self) -> tuple[Literal["move", "link"], Path] | None:
        """How pictures are sorted, and where to."""
        if self.move_to is not None:
            return "move", self.move_to
        return None if self.link_to is None else ("link", self.link_to)
