"""A folder of labelled pictures to a classifier, and a stream of pictures to a table."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fsclip_jax.clip.load import Backbone, load_clip
from fsclip_jax.errors import tell
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.features.extract import ExtractSettings, bank_for
from fsclip_jax.features.identity import DEFAULT_BACKBONE, PHOTO_BACKBONE, icons_only
from fsclip_jax.features.progress import Progress
from fsclip_jax.fitting.checkpoints import FeatureSpec, read_checkpoint
from fsclip_jax.fitting.methods import text_missing
from fsclip_jax.prediction.asked import (
    AlsoLabelled,
    Row,
    Written,
    also_labelled,
    judge_folders,
    labels_of_folders,
    read_rows,
)
from fsclip_jax.prediction.classifier import (
    Classifier,
    Unknown,
    answer,
    fit_support,
    methods_for_pictures,
    require_familiar,
)
from fsclip_jax.prediction.config import FolderFit
from fsclip_jax.prediction.images import encode_pictures, picture_source
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
from fsclip_jax.prediction.table import PredictionTable, prediction_row
from fsclip_jax.printable import escaped

_MOST_LOOKED_UP = (
    100  # pictures for which the labelled one is named that they are nearly the same as
)


@dataclass(frozen=True, eq=False)
class PictureClassifier:
    """A classifier of pictures."""

    classifier: Classifier
    backbone: Backbone
    bank: StoredBank
    folder: Path

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
    if how.backbone is None and how.checkpoint is not None and how.checkpoint.exists():
        spec = read_checkpoint(how.checkpoint).meta.get("backbone") or DEFAULT_BACKBONE
    elif how.backbone is None:
        tell([icons_only(f"give --backbone {PHOTO_BACKBONE}")])
    settings = ExtractSettings(templates=how.templates, prompt_file=how.prompt_file)
    bank = bank_for(f"folder:{folder}", spec, settings)
    features = FeatureSpec(bank.dim, bank.manifest["backbone"])
    methods = methods_for_pictures(how.method, features, how.checkpoint, text_missing(bank))
    draws = support_of(bank, how.shots)
    classifier = fit_support(draws, bank.class_names, methods, calibrate=how.calibrate)
    return PictureClassifier(classifier, load_clip(spec), bank, folder.expanduser())


def write_predictions(
    ready: PictureClassifier,
    keys: Sequence[str],
    out: Path,
    top: int = 5,
    unknown: Unknown = 0.0,
    workers: int | None = None,
    *,
    safe_csv: bool = False,
) -> Written:
    """Classify pictures and write a line for each as soon as it is known; then the report.

    Args:
        top: classes to list for each picture.
        unknown: the probability below which the label is left empty, or ``auto``.
        safe_csv: see ``PredictionTable``.

    Raises:
        UserError: see ``PredictionTable`` and ``require_familiar``.
    """
    classifier = ready.classifier
    top = min(top, len(classifier.class_names))
    below = require_familiar(classifier)._asdict() if unknown == "auto" else unknown
    made_with = {**made_of(ready), "top": top, "unknown": below}
    lost = 0
    with PredictionTable(out, top, made_with, safe=safe_csv) as table:
        todo = [key for key in keys if key not in table.done]
        with Progress(len(keys), "pictures", "predict", start=len(keys) - len(todo)) as progress:
            if todo:
                for found in encode_pictures(picture_source(todo), ready.backbone, workers):
                    answers = answer(classifier, found.features, unknown)
                    rows = [
                        prediction_row(
                            todo[place], shares, classifier.class_names, top, float(close), known
                        )
                        for place, shares, close, _, known in zip(
                            found.rows, *answers._replace(known=answers.known.tolist()), strict=True
                        )
                    ]
                    table.add(rows)
                    for _, why in found.lost:
                        progress.note(f"unreadable picture left out: {why}")
                    lost += len(found.lost)
                    progress.advance(len(rows) + len(found.lost))
        written = _look_at(ready, list(read_rows(out, safe=safe_csv)), lost)
        report = report_of_fit(classifier, ready.quality, unknown)
        about = {
            "table": out.name,
            "support": escaped(str(ready.folder)),
            "backbone": ready.backbone.id,
        }
        write_report(report_place(out), {**report, **about, "pictures": report_of_table(written)})
        table.finish()  # a run that is stopped before makes the report when it is continued
    return written


def _look_at(ready: PictureClassifier, rows: Sequence[Row], lost: int) -> Written:
    """Say what a table with every line tells, however many runs it took."""
    names = ready.classifier.class_names
    folders = labels_of_folders(ready.bank.keys, ready.bank.labels.tolist(), names)
    twice = also_labelled(rows)
    looked_up = twice[:_MOST_LOOKED_UP]
    doubles = []
    for found in encode_pictures(picture_source(looked_up), ready.backbone, 0) if twice else ():
        cosines, nearest = closest(ready.classifier.labelled.shots, found.features)
        for place, cosine, row in zip(found.rows, cosines, nearest, strict=True):
            image, labelled = looked_up[place], ready.pictures[row]
            same = same_file(Path(image), ready.folder / labelled)
            names_of = escaped(image), escaped(labelled)
            doubles.append(AlsoLabelled(*names_of, round(float(cosine), 4), same))
    return Written(
        len(rows),
        lost,
        sum(not row.label for row in rows),
        judge_folders(rows, folders, names),
        tuple(doubles),
        len(twice) - len(doubles),
    )


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
