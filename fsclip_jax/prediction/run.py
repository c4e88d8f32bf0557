"""A folder of labelled pictures to a classifier, and a stream of pictures to a table."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np

from fsclip_jax.clip.load import Backbone, load_clip
from fsclip_jax.data.folder import open_folder
from fsclip_jax.errors import tell
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.features.extract import ExtractSettings, bank_for
from fsclip_jax.features.identity import DEFAULT_BACKBONE, PHOTO_BACKBONE, icons_only
from fsclip_jax.features.progress import Progress
from fsclip_jax.fitting.checkpoints import FeatureSpec, read_checkpoint
from fsclip_jax.fitting.inputs import text_missing
from fsclip_jax.prediction.asked import (
    AlsoLabelled,
    Written,
    labels_of_folders,
    tell_of,
)
from fsclip_jax.prediction.classifier import (
    Classifier,
    fit_support,
    methods_for_pictures,
    refuse_for_pictures,
    require_familiar,
    start_answer,
)
from fsclip_jax.prediction.config import FolderFit, TableConfig
from fsclip_jax.prediction.formats import STANDARD_OUTPUT, Row, prediction_row, row_of_cells
from fsclip_jax.prediction.images import (
    EncodedPictures,
    batch_of,
    encode_pictures,
    one_late,
    picture_source,
)
from fsclip_jax.prediction.quality import Quality
from fsclip_jax.prediction.shots import closest
from fsclip_jax.prediction.summary import (
    named,
    report_of_fit,
    report_of_table,
    report_place,
    same_file,
    write_report,
)
from fsclip_jax.prediction.support import support_of
from fsclip_jax.prediction.table import PredictionTable, PrintedTable, remove
from fsclip_jax.printable import escaped
from fsclip_jax.typing import Float

Keep: TypeAlias = Callable[[Sequence[str], Float[np.ndarray, "n dim"]], None]


@dataclass(frozen=True, eq=False)
class PictureClassifier:
    """A classifier of pictures."""

    classifier: Classifier
    backbone: Backbone
    bank: StoredBank
    folder: Path
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What of the folder was not taken, by its kind."""

    @cached_property
    def pictures(self) -> tuple[str, ...]:
        """Every labelled picture by its row, as a path within the folder."""
        keys = self.bank.keys
        return tuple(keys[row] for row in np.argsort(self.bank.labels, kind="stable").tolist())

    @cached_property
    def quality(self) -> Quality:
        """What held-out pictures say of the fit; pictures by their paths within the folder."""
        return named(self.classifier.quality, self.pictures, self.folder)

    def describe(self) -> str:
        """Say in a line what it is and how it was calibrated."""
        classifier, temperature = self.classifier, self.classifier.temperature
        counts = np.bincount(self.bank.labels, minlength=len(classifier.class_names))
        each = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to "
        each += "" if counts.min() == counts.max() else f"{counts.max()}"
        how = f"temperature {temperature.value:.2f} from {temperature.images} held-out pictures"
        if not temperature.even:
            how = "probabilities are not calibrated"
        elif not temperature.images:
            how = f"temperature {temperature.value:.2f} from the class names alone"
        return (
            f"{classifier.method.name} on {self.backbone.id}: "
            f"{len(classifier.class_names)} classes, "
            f"{each} labelled pictures each; {how}"
        )


def fit_folder(folder: Path, how: FolderFit) -> PictureClassifier:
    """Fit a classifier to a folder of labelled pictures, one sub-folder per class.

    Raises:
        UserError: the folder or a setting is not as expected.
    """
    spec = how.backbone or DEFAULT_BACKBONE
    if how.backbone is None and how.checkpoint is not None:
        spec = read_checkpoint(how.checkpoint).meta.get("backbone") or DEFAULT_BACKBONE
    elif how.backbone is None:
        tell([icons_only(f"give --backbone {PHOTO_BACKBONE}")])
    if how.checkpoint is None:
        refuse_for_pictures(how.method)
    source = open_folder(folder)
    clip = load_clip(spec)
    settings = ExtractSettings(
        templates=how.templates, prompt_file=how.prompt_file, batch=batch_of(clip)
    )
    bank = bank_for(source, clip, settings)
    features = FeatureSpec(bank.dim, bank.manifest["backbone"])
    methods = methods_for_pictures(how.method, features, how.checkpoint, text_missing(bank))
    draws = support_of(bank, how.shots)
    classifier = fit_support(draws, bank.class_names, methods, calibrate=how.calibrate)
    left_out = dict(source.left_out)
    if lost := len(source) - len(bank.labels):
        left_out["unreadable files"] = lost
    return PictureClassifier(classifier, clip, bank, folder.expanduser(), left_out)


def open_table(
    ready: PictureClassifier,
    asked: TableConfig,
    printed: Callable[[str], None],
    made_before: Mapping[str, Any] | None = None,
) -> PredictionTable | PrintedTable:
    """Open the table for what a classifier says; with ``overwrite`` begin it anew.

    Args:
        printed: prints lines where the table goes to standard output.
        made_before: see ``PredictionTable``.

    Raises:
        UserError: see ``PredictionTable`` and ``require_familiar``.
    """
    classifier = ready.classifier
    top = min(asked.top, len(classifier.class_names))
    below: Any = asked.unknown
    if asked.unknown == "auto":
        below = require_familiar(classifier)._asdict()
    if asked.out == STANDARD_OUTPUT:
        return PrintedTable(printed, top, safe=asked.safe_csv)
    if asked.overwrite:
        report_place(asked.out).unlink(missing_ok=True)  # a table without one is not added to
        remove(asked.out)
    made_with = {**made_of(ready), "top": top, "unknown": below}
    return PredictionTable(asked.out, top, made_with, safe=asked.safe_csv, made_before=made_before)


def write_predictions(
    ready: PictureClassifier,
    keys: Sequence[str],
    table: PredictionTable | PrintedTable,
    asked: TableConfig,
    left_out: Mapping[str, int],
    keep: Keep | None = None,
) -> Written:
    """Classify pictures and write a line for each as soon as it is known; then the report.

    Args:
        left_out: what of the places of the pictures was not taken, by its kind.
        keep: is handed the features of pictures, with their names.

    Raises:
        UserError: see ``PredictionTable``.
    """
    classifier = ready.classifier
    folders = labels_of_folders(ready.bank.keys, ready.bank.labels.tolist(), classifier.class_names)
    left = [key for key in keys if key not in table.done]
    lost: list[str] = []
    with Progress(len(keys), "pictures", "predict", start=len(keys) - len(left)) as progress:
        rows = _classified(ready, left, table, asked, progress, lost, keep)
        if isinstance(table, PredictionTable) and table.done:
            deque(rows, maxlen=0)
            rows = table.rows()  # those of earlier runs as well
        told = tell_of(rows, folders, classifier.class_names)
    written = Written(told, len(left) - len(lost), len(lost), _named(ready, told.twice))
    if isinstance(table, PredictionTable):
        about = {
            "table": table.path.name,
            "support": escaped(str(ready.folder)),
            "backbone": ready.backbone.id,
            "pictures": report_of_table(written),
            "left_out": {"support": ready.left_out, "images": left_out},
            "made_with": table.made_with,
        }
        report = report_of_fit(classifier, ready.quality, asked.unknown)
        write_report(report_place(table.path), {**report, **about})
        table.finish()  # a run that is stopped before makes the report when it is continued
    return written


def _classified(
    ready: PictureClassifier,
    keys: Sequence[str],
    table: PredictionTable | PrintedTable,
    asked: TableConfig,
    progress: Progress,
    lost: list[str],
    keep: Keep | None,
) -> Iterator[Row]:
    """Write pictures into the table as they are classified, and yield what was written."""
    names = ready.classifier.class_names
    top = min(asked.top, len(names))
    begun = (
        (found, start_answer(ready.classifier, found.features, asked.unknown))
        for found in _encoded(keys, ready, asked.workers)
    )
    # Logits stand in the device's queue behind the next batch of pictures: waited for at once,
    # they would leave it idle while their lines are written.
    for found, wait in one_late(begun):
        answers = wait()
        rows = [
            prediction_row(keys[place], shares, names, top, float(close), known)
            for place, shares, close, _, known in zip(
                found.rows, *answers._replace(known=answers.known.tolist()), strict=True
            )
        ]
        table.add(rows)
        if keep is not None:
            keep([keys[place] for place in found.rows], found.features)
        for place, why in found.lost:
            lost.append(keys[place])
            progress.note(f"unreadable picture left out: {why}")
        progress.advance(len(rows) + len(found.lost))
        yield from map(row_of_cells, rows)


def _encoded(
    keys: Sequence[str], ready: PictureClassifier, workers: int | None
) -> Iterator[EncodedPictures]:
    return encode_pictures(picture_source(keys), ready.backbone, workers) if keys else iter(())


def _named(ready: PictureClassifier, images: Sequence[str]) -> tuple[AlsoLabelled, ...]:
    """Say which labelled pictures these are nearly the same as."""
    doubles = []
    for found in _encoded(images, ready, 0):
        cosines, nearest = closest(ready.classifier.labelled.shots, found.features)
        for place, cosine, row in zip(found.rows, cosines, nearest, strict=True):
            image, labelled = images[place], ready.pictures[row]
            same = same_file(Path(image), ready.folder / labelled)
            names_of = escaped(image), escaped(labelled)
            doubles.append(AlsoLabelled(*names_of, round(float(cosine), 4), same))
    return tuple(doubles)


def made_of(ready: PictureClassifier) -> dict[str, Any]:
    """Return all that a prediction depends on but the picture, JSON values."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(ready.classifier.fitted.state):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return {
        "backbone": ready.backbone.sha256,
        "classes": list(ready.classifier.class_names),
        "method": ready.classifier.method.name,
        "state": digest.hexdigest(),
        "temperature": ready.classifier.temperature.value,
        "even": ready.classifier.temperature.even,
    }
