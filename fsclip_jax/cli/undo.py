"""``fsclip undo``: put pictures back that ``fsclip predict`` sorted into folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fsclip_jax.cli.parsing import parse
from fsclip_jax.errors import UserError, say, tell


@dataclass(frozen=True)
class UndoConfig:
    """Put pictures back where they were, and remove the links and folders that were made."""

    folder: Annotated[Path, tyro.conf.Positional]
    """What `fsclip predict` was given as `--move-to` or `--link-to`."""


def main(argv: Sequence[str]) -> int:
    """Undo; 1 if a picture is left."""
    config = parse(UndoConfig, argv, prog="fsclip undo")
    if config.folder.exists() and not config.folder.is_dir():
        raise UserError(f"{config.folder} is a file; give the folder of --move-to or --link-to")
    from fsclip_jax.prediction.undo import undo

    done = undo(config.folder)
    if done is None:
        missing = "" if config.folder.exists() else " (there is no such folder)"
        say(f"nothing to undo in {config.folder}{missing}")
        return 0
    tell(f"left: {image}: {why}" for image, why in done.left)
    each = (
        (done.back, "pictures are back"),
        (done.links, "links removed"),
        (len(done.left), "left"),
    )
    told = ", ".join(f"{count} {what}" for count, what in each if count)
    say(f"{config.folder}: {told or 'nothing had been moved yet'}")
    return 1 if done.left else 0
