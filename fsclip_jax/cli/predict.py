"""``fsclip predict``: labelled pictures and other pictures to a table of predictions."""

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fsclip_jax.cli.parsing import parse
from fsclip_jax.cli.streams import printer
from fsclip_jax.errors import UserError, say, tell
from fsclip_jax.prediction.config import FolderFit, LookConfig, TableConfig

if TYPE_CHECKING:  # JAX is imported when there is work
    from fsclip_jax.data.left_out import Passed
    from fsclip_jax.prediction.run import PictureClassifier
    from fsclip_jax.prediction.table import PredictionTable, PrintedTable


@dataclass(frozen=True, kw_only=True)
class PredictConfig(LookConfig, TableConfig, FolderFit):
    """Classify pictures by a folder of labelled ones."""

    support: Path
    """Folder of labelled pictures, one sub-folder per class."""
    images: tuple[Path, ...]
    """The pictures to classify: files, and folders with their sub-folders."""


def main(argv: Sequence[str]) -> int:
    """Fit to the labelled pictures and write a line for every other one; 1 if some are unreadable.

    Where the table goes to standard output, all else goes to the error stream.
    """
    config = parse(PredictConfig, argv, prog="fsclip predict")
    if config.unknown != "auto" and not 0 <= config.unknown <= 1:
        raise UserError(f"--unknown is {config.unknown}; give auto, or a probability from 0 to 1")
    if config.top < 1:
        raise UserError(f"--top is {config.top}; give 1 or more")
    from fsclip_jax.prediction.formats import STANDARD_OUTPUT, require_format

    require_format(config.out, safe=config.safe_csv)
    if config.out != STANDARD_OUTPUT:
        return _predict(config, print)
    if config.overwrite:
        raise UserError("--overwrite is of a table in a file; leave it out with --out -")
    out = printer(sys.stdout)
    with redirect_stdout(sys.stderr):
        try:
            return _predict(config, out)
        except BrokenPipeError:  # nobody reads on: what is left need not be classified
            return 0


def _predict(config: PredictConfig, printed: Callable[[str], None]) -> int:
    from fsclip_jax.data.folder import list_pictures
    from fsclip_jax.data.left_out import passed_over
    from fsclip_jax.prediction.formats import STANDARD_OUTPUT
    from fsclip_jax.prediction.look import look, require_look
    from fsclip_jax.prediction.run import fit_folder, open_table
    from fsclip_jax.prediction.sorting import sorted_before
    from fsclip_jax.prediction.summary import made_before
    from fsclip_jax.prediction.table import PrintedTable, held, refuse_finished

    page = require_look(config, config.out, config.images, config.support)
    passed: Passed = {}
    try:
        keys = list_pictures(config.images, passed)
    except UserError:
        moved = sorted_before(config.move_to, config.images) if config.move_to else 0
        if not moved:
            raise
        say(
            f"all {moved} pictures of {', '.join(map(str, config.images))} were moved into "
            f"{config.move_to} (fsclip undo {config.move_to} puts them back)"
        )
        return 0
    tell(passed_over(passed))
    if config.out == STANDARD_OUTPUT:
        ready = fit_folder(config.support, config)
        return _fill(config, ready, keys, open_table(ready, config, printed), passed)
    with held(config.out):
        before = made_before(config.out)
        refuse_finished(config.out, {} if config.overwrite else before)
        ready = fit_folder(config.support, config)
        with open_table(ready, config, printed, before) as table:
            code = _fill(config, ready, keys, table, passed)
            asked = page is not None or config.sort_to or config.suggest
            if asked and not isinstance(table, PrintedTable):
                lines, done = look(ready, list(table.rows()), config, config.out, page)
                tell(f"left where it is: {image}: {why}" for image, why in done.left)
                say(*lines)
                code = max(code, int(bool(done.left)))
            return code


def _fill(
    config: PredictConfig,
    ready: "PictureClassifier",
    keys: Sequence[str],
    table: "PredictionTable | PrintedTable",
    passed: "Passed",
) -> int:
    """Write what is missing in the table, and say what is in it."""
    from fsclip_jax.data.left_out import UNREAD, count_kinds, shown
    from fsclip_jax.prediction.formats import STANDARD_OUTPUT
    from fsclip_jax.prediction.look import encoder_of
    from fsclip_jax.prediction.run import write_predictions
    from fsclip_jax.prediction.summary import lines_of_fit, lines_of_table, report_place

    if table.finished and table.done.issuperset(keys):
        say(
            f"{config.out} is finished: it has all {len(keys)} pictures "
            "(--overwrite classifies them again)"
        )
        return int(UNREAD in passed)
    say(ready.describe(), *lines_of_fit(ready.classifier, ready.quality))
    left_out = count_kinds(passed)
    keep = encoder_of(ready).keep if config.html is not None or config.suggest else None
    written = write_predictions(ready, keys, table, config, left_out, keep)
    is_file = config.out != STANDARD_OUTPUT
    say(*lines_of_table(written, config.out if is_file else "printed", table.finished))
    for flag, kinds in (("support", ready.left_out), ("images", left_out)):
        if kinds:
            say(f"left out of --{flag}: {shown(kinds)}")
    if is_file:
        say(f"report: {report_place(config.out)}")
    return int(written.lost > 0 or UNREAD in passed)
