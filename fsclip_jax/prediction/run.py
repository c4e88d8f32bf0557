"""A folder of labelled pictures to a classifier, and a stream of pictures to a table."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fsclip_jax.clip.load import Backbone, load_clip
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.features.extract import ExtractSettings, bank_for
from fsclip_jax.features.identity import DEFAULT_BACKBONE
from fsclip_jax.features.progress import Progress
from fsclip_jax.fitting.checkpoints import FeatureSpec, read_checkpoint
from fsclip_jax.prediction.classifier import (
    Classifier,
    fit_support,
    method_for_pictures,
    probabilities,
)
from fsclip_jax.prediction.config import FolderFit
from fsclip_jax.prediction.images import encode_pictures, picture_source
from fsclip_jax.prediction.support import support_of
from fsclip_jax.prediction.table import UNKNOWN, PredictionTable, prediction_row


@dataclass(frozen=True, eq=False)
class PictureClassifier:
    """A classifier of pictures."""

    classifier: Classifier
    backbone: Backbone
    bank: StoredBank

    def describe(self) -> str:
        """Say in a line what it is and how it was calibrated."""
        classifier, temperature = self.classifier, self.classifier.temperature
        counts = np.bincount(self.bank.labels, minlength=len(classifier.class_names))
        each = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to "
        each += "" if counts.min() == counts.max() else f"{counts.max()}"
        how = (
            f"temperature {temperature.value:.2f} from {temperature.images} held-out pictures"
            if temperature.images
            else "probabilities are not calibrated (too few labelled pictures, or switched off)"
        )
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
    settings = ExtractSettings(templates=how.templates, prompt_file=how.prompt_file)
    bank = bank_for(f"folder:{folder}", spec, settings)
    features = FeatureSpec(bank.dim, bank.manifest["backbone"])
    chosen = method_for_pictures(how.method, features, how.checkpoint)
    draws = support_of(bank, how.shots)
    classifier = fit_support(draws, bank.class_names, chosen, calibrate=how.calibrate)
    return PictureClassifier(classifier, load_clip(spec), bank)


def write_predictions(
    ready: PictureClassifier,
    keys: Sequence[str],
    out: Path,
    top: int = 5,
    threshold: float = 0.0,
    workers: int | None = None,
    *,
    safe_csv: bool = False,
) -> tuple[int, int, int]:
    """Classify pictures and write a line for each as soon as it is known.

    Args:
        top: classes to list for each picture.
        safe_csv: see ``PredictionTable``.

    Returns:
        Number of lines in the table, of pictures that could not be read, and of new lines whose
        label is ``unknown``.

    Raises:
        UserError: see ``PredictionTable``.
    """
    classifier = ready.classifier
    top = min(top, len(classifier.class_names))
    made_with = {**made_of(ready), "top": top, "unknown": threshold}
    lost = unknown = 0
    with PredictionTable(out, top, made_with, safe=safe_csv) as table:
        todo = [key for key in keys if key not in table.done]
        written = len(table.done)
        with Progress(len(keys), "pictures", "predict", start=len(keys) - len(todo)) as progress:
            if todo:
                for found in encode_pictures(picture_source(todo), ready.backbone, workers):
                    shares = probabilities(classifier, found.features)
                    rows = [
                        prediction_row(todo[place], each, classifier.class_names, top, threshold)
                        for place, each in zip(found.rows, shares, strict=True)
                    ]
                    table.add(rows)
                    for _, why in found.lost:
                        progress.note(f"unreadable picture left out: {why}")
                    written, lost = written + len(rows), lost + len(found.lost)
                    unknown += sum(row[1] == UNKNOWN for row in rows)
                    progress.advance(len(rows) + len(found.lost))
        table.finish()
    return written, lost, unknown


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
    }
