"""``FewShotClassifier``: the package in three lines, after scikit-learn's conventions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from fsclip_jax.clip.load import Backbone, load_clip
from fsclip_jax.data.folder import list_pictures
from fsclip_jax.data.source import ImageSource
from fsclip_jax.data.templates import PHOTO
from fsclip_jax.episodes.task import Task
from fsclip_jax.errors import UserError, tell
from fsclip_jax.features.extract import bank_for
from fsclip_jax.features.identity import prompts_of
from fsclip_jax.features.text import class_text_features
from fsclip_jax.fitting.checkpoints import FeatureSpec
from fsclip_jax.fitting.draws import Draws, draws_of
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.prediction.classifier import (
    Classifier,
    fit_support,
    method_for_pictures,
    probabilities,
)
from fsclip_jax.prediction.images import encode_pictures, loaded_source, picture_source
from fsclip_jax.prediction.support import support_of

LOGIT_SCALE = 100.0
"""Inverse temperature of features that come without a CLIP: that of OpenAI's models."""


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """Classify pictures, or image features, from a few labelled ones.

    ``fit``, ``predict``, ``predict_proba`` and ``score`` are scikit-learn's. ``X`` is a list of
    pictures (files or their bytes, PIL images, or uint8 arrays) or a matrix of image features
    [n dim]; the labels double as class names, which the text tower reads. A picture in memory is
    read as its file is: turned upright, on white.

    Args:
        method: a method of the package that needs no meta-training, such as ``"linear_probe"``,
            ``"tip_adapter"`` or ``"gda"``; or that of the checkpoint.
        backbone: the CLIP: ``"mini"``, a Hugging Face id, a folder or a weights file. None
            takes features without text: each class is then known by its images alone.
        checkpoint: workdir of ``fsclip train``, for a meta-learned method.
        shots: labelled pictures of a class to use at most; None uses all. Of ``from_folder``.

    Attributes:
        classes_: the labels, sorted; of ``from_folder`` the class names in natural order.
        fitted_: the classifier; ``fitted_.temperature`` says how it was calibrated.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(20, 8)) + 4 * np.eye(8)[np.arange(20) % 2]
        >>> y = np.array(["cat", "dog"])[np.arange(20) % 2]
        >>> FewShotClassifier(backbone=None).fit(X, y).predict(X[:2]).tolist()
        ['cat', 'dog']
    """

    def __init__(
        self,
        method: str | None = None,
        backbone: str | None = "mini",
        checkpoint: str | Path | None = None,
        shots: int | None = None,
        calibrate: bool = True,
    ) -> None:
        self.method = method
        self.backbone = backbone
        self.checkpoint = checkpoint
        self.shots = shots
        self.calibrate = calibrate

    @classmethod
    def from_folder(cls, folder: str | Path, **settings: Any) -> "FewShotClassifier":
        """Fit to a folder of labelled pictures, one sub-folder per class.

        Its features are kept in the cache of feature banks. The settings are the arguments of the
        class.

        Raises:
            UserError: the folder is not as expected, or a setting is wrong.
        """
        made = cls(**settings)
        if made.backbone is None:
            raise UserError("pictures need a backbone; give backbone='mini' or another CLIP")
        stored = bank_for(f"folder:{folder}", made.backbone)
        spec = FeatureSpec(stored.dim, stored.manifest["backbone"])
        method = method_for_pictures(made.method, spec, made._workdir())
        draws = support_of(stored, made.shots)
        classifier = fit_support(draws, stored.class_names, method, calibrate=made.calibrate)
        made._keep(classifier, np.asarray(stored.class_names, object), stored.dim)
        return made

    def fit(self, X: Any, y: Any) -> "FewShotClassifier":  # noqa: N803 (scikit-learn's name)
        """Fit to labelled pictures, or features [n dim].

        Raises:
            ValueError: the labels do not fit the pictures, or are no classes.
            UserError: a picture cannot be read, or a setting is wrong.
        """
        clip = None if self.backbone is None else load_clip(self.backbone)
        if _are_pictures(X):
            if y is None:
                raise ValueError("requires y to be passed, but the target y is None")
            features = self._encode(X, clip)
            labels = column_or_1d(y, warn=True)
        else:
            features, labels = validate_data(self, X, y, dtype=np.float32)
            labels = column_or_1d(labels, warn=True)
        check_classification_targets(labels)
        if len(labels) != len(features):
            raise ValueError(f"{len(features)} pictures have {len(labels)} labels")
        classes, numbers = np.unique(labels, return_inverse=True)
        names = [str(name) for name in classes.tolist()]
        draws = _draws(_unit(features), numbers, clip, names)
        backbone = {} if clip is None else {"id": clip.id, "sha256": clip.sha256}
        spec = FeatureSpec(features.shape[1], backbone)
        method = method_for_pictures(self.method, spec, self._workdir())
        classifier = fit_support(draws, names, method, calibrate=self.calibrate)
        self._keep(classifier, classes, features.shape[1], clip)
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the most probable class of every picture.

        ``X`` is as in ``fit``, or a folder, whose pictures are taken in the order of their names.
        """
        best = self.predict_proba(X).argmax(-1)
        labels: np.ndarray = self.classes_[best]
        return labels

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the calibrated probability [n classes] of every class, as in ``classes_``."""
        check_is_fitted(self)
        if _are_pictures(X):
            features = self._encode(X, self._clip())
        else:
            features = validate_data(self, X, dtype=np.float32, reset=False)
        return probabilities(self.fitted_, _unit(features))

    def _keep(
        self, classifier: Classifier, classes: np.ndarray, dim: int, clip: Backbone | None = None
    ) -> None:
        self.fitted_, self.classes_, self.n_features_in_ = classifier, classes, dim
        self._loaded = clip

    def _workdir(self) -> Path | None:
        return None if self.checkpoint is None else Path(self.checkpoint)

    def _clip(self) -> Backbone | None:
        if self._loaded is None and self.backbone is not None:
            self._loaded = load_clip(self.backbone)
        return self._loaded

    def _encode(self, pictures: Any, clip: Backbone | None) -> np.ndarray:
        if clip is None:
            raise UserError("pictures need a backbone; give backbone='mini' or another CLIP")
        found = list(encode_pictures(_source(pictures), clip))
        for part in found:
            for row, why in part.lost:
                raise UserError(f"picture {row} cannot be read ({why}); leave it out or repair it")
        return np.concatenate([part.features for part in found])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the towers out of a pickle: they are loaded again when they are needed."""
        state: dict[str, Any] = dict(super().__getstate__())
        return {**state, "_loaded": None} if "_loaded" in state else state


def _are_pictures(x: Any) -> bool:
    if isinstance(x, str | Path):
        return True
    if isinstance(x, np.ndarray) and x.dtype != object:
        return x.ndim == 4 and x.dtype == np.uint8
    if isinstance(x, Sequence | np.ndarray) and len(x):
        first = x[0]
        return isinstance(first, str | Path | bytes | Image.Image) or (
            isinstance(first, np.ndarray)
            and (first.ndim == 3 or (first.ndim == 2 and first.dtype.kind in "ub"))
        )
    return False


def _source(pictures: Any) -> ImageSource:
    if isinstance(pictures, str | Path):
        notes: list[str] = []
        source = picture_source(list_pictures([Path(pictures)], notes))
        tell(notes)
        return source
    if all(isinstance(picture, str | Path) for picture in pictures):
        return picture_source([str(picture) for picture in pictures])
    return loaded_source(list(pictures))


def _unit(features: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(features.astype(np.float64), axis=-1, keepdims=True)
    unit: np.ndarray = (features / np.where(norms > 0, norms, 1)).astype(np.float32)
    return unit


def _draws(
    features: np.ndarray, labels: np.ndarray, clip: Backbone | None, names: Sequence[str]
) -> Draws:
    """Lay labelled features out as the support of one task."""
    sizes = np.bincount(labels, minlength=len(names))
    support = np.zeros((len(names), sizes.max(), features.shape[1]), np.float32)
    mask = np.arange(sizes.max())[None, :] < sizes[:, None]
    support[mask] = features[np.argsort(labels, kind="stable")]
    text, scale = _text(support, clip, names)
    task = Task(
        jnp.asarray(support)[None], jnp.asarray(mask)[None], text[None], jnp.full((1,), scale)
    )
    return draws_of(task)


def _text(
    support: np.ndarray, clip: Backbone | None, names: Sequence[str]
) -> tuple[jax.Array, float]:
    """Return what stands for each class by name; without a text tower the mean of its images."""
    if clip is None:
        return l2_normalize(jnp.asarray(support.sum(1))), LOGIT_SCALE
    named = picture_source((), names, PHOTO)
    text, _, _ = class_text_features(clip, prompts_of(named, clip).each)
    if text.shape[1] != support.shape[2]:
        raise ValueError(
            f"features of width {support.shape[2]} are not of the backbone {clip.id}, whose "
            f"features have width {text.shape[1]}; give backbone=None to use them without text"
        )
    return jnp.asarray(text), clip.logit_scale
