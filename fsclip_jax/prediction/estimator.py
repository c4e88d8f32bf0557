"""``FewShotClassifier``: the package in three lines, after scikit-learn's conventions."""

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from fsclip_jax.data.folder import open_folder
from fsclip_jax.data.prompts import TemplateChoice
from fsclip_jax.errors import UserError, some
from fsclip_jax.features.extract import bank_for
from fsclip_jax.features.identity import (
    DEFAULT_BACKBONE,
    PHOTO_BACKBONE,
    icons_only,
)
from fsclip_jax.fitting.checkpoints import FeatureSpec
from fsclip_jax.fitting.inputs import no_text
from fsclip_jax.hub import Push, find_files
from fsclip_jax.prediction.class_text import prompting, text_of_classes
from fsclip_jax.prediction.classifier import (
    Unknown,
    answer,
    fit_support,
    methods_for_pictures,
    probabilities,
)
from fsclip_jax.prediction.encoder import load_encoder
from fsclip_jax.prediction.given import as_labels, as_pictures, check_settings
from fsclip_jax.prediction.images import batch_of
from fsclip_jax.prediction.saved import (
    FILES,
    Saved,
    load_classifier,
    push_classifier,
    save_classifier,
)
from fsclip_jax.prediction.support import labelled_support

LOGIT_SCALE = 100.0
"""Inverse temperature of features that come without a CLIP: that of OpenAI's models."""


class FewShotClassifier(
    ClassNamePrefixFeaturesOutMixin, ClassifierMixin, TransformerMixin, BaseEstimator
):
    """Classify pictures, or image features, from a few labelled ones.

    ``fit``, ``partial_fit``, ``predict``, ``predict_proba``, ``score``, ``transform`` and
    ``kneighbors`` are scikit-learn's. ``X`` is one picture or many (files or their bytes, PIL
    images, uint8 arrays; a list, an array or a pandas Series of them; a folder), or a matrix of
    image features [n dim]; the labels double as class names, which the text tower reads. A picture
    in memory is read as its file is: turned upright, on white.

    Args:
        method: a method of the package that needs no meta-training, such as ``"linear_probe"``,
            ``"tip_adapter"`` or ``"gda"``; or that of the checkpoint. ``"auto"``, or neither:
            the best of a short list on pictures that are held out in turn.
        backbone: the CLIP, or an image tower: a Hugging Face id such as
            ``"openai/clip-vit-base-patch32"``, a folder, a weights file, or ``"mini"``, which is
            bundled and knows icons; ``"default"`` is mini too, with a warning that it knows no
            photographs. None takes features without text: each class is then known by its images
            alone.
        checkpoint: workdir of ``fsclip train``, for a meta-learned method.
        shots: labelled pictures of a class to use at most, spread over those that there are; None
            uses all.
        templates: prompts: ``"single"``, ``"ensemble"``, or your own, such as
            ``["a photo of a {}, a kind of bird."]``.
        verbose: show on the error stream how far it is.

    Attributes:
        classes_: the labels, sorted; of ``from_folder`` the class names in natural order.
        fitted_: the classifier; ``fitted_.quality`` is what held-out pictures say of it,
            ``fitted_.tried`` which methods were tried, ``fitted_.temperature`` its calibration.
        support_features_: unit features [n dim] of the labelled pictures, in their order.
        support_labels_: their labels.

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
        backbone: str | None = "default",
        checkpoint: str | Path | None = None,
        shots: int | None = None,
        calibrate: bool = True,
        templates: TemplateChoice | Sequence[str] = "single",
        verbose: bool = False,
    ) -> None:
        self.method = method
        self.backbone = backbone
        self.checkpoint = checkpoint
        self.shots = shots
        self.calibrate = calibrate
        self.templates = templates
        self.verbose = verbose

    @property
    def _n_features_out(self) -> int:
        return int(self.support_features_.shape[1])  # for the names that set_output gives

    def __sklearn_tags__(self) -> Any:
        """Say that features are float32 whatever was given."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    @classmethod
    def from_folder(cls, folder: str | Path, **arguments: Any) -> "FewShotClassifier":
        """Fit to a folder of labelled pictures, one sub-folder per class.

        Its features are kept in the cache of feature banks. The rest are the arguments of
        the class.

        Raises:
            UserError: the folder is not as expected, or a setting is wrong.
        """
        made = cls(**arguments)
        check_settings(made.get_params(deep=False))
        if made.backbone is None:
            raise UserError("pictures need a backbone; give backbone='mini' or another CLIP")
        settings, own = prompting(made.templates)
        if own:
            raise UserError("a folder takes templates='single' or 'ensemble'; fit takes your own")
        source = open_folder(str(folder))
        clip = load_encoder(made._spec(warn=True)).backbone
        stored = bank_for(source, clip, dataclasses.replace(settings, batch=batch_of(clip)))
        names = np.asarray(stored.class_names, object)
        features = _unit(np.asarray(stored.features[0], np.float32))
        return made._fit(features, np.asarray(stored.labels), names, stored.text_features)

    def fit(self, X: Any, y: Any = None) -> "FewShotClassifier":  # noqa: N803 (scikit-learn's name)
        """Fit to labelled pictures, or features [n dim].

        Raises:
            ValueError: the labels do not fit the pictures, or are no classes.
            UserError: a picture cannot be read, or a setting is wrong.
        """
        features, labels = self._labelled(X, y, first=True)
        classes, numbers = np.unique(labels, return_inverse=True)
        if len(classes) == 1:
            only = f"all pictures are of one class, {classes[0]}: every other will be called so"
            warnings.warn(f"{only}; give pictures of more classes", stacklevel=2)
        return self._fit(features, numbers, classes)

    def partial_fit(
        self,
        X: Any,  # noqa: N803
        y: Any = None,
        classes: Any = None,
    ) -> "FewShotClassifier":
        """Fit to more labelled pictures, of old and new classes, beside those it has.

        Args:
            classes: all classes there may ever be, if they are known: other labels are refused. A
                class counts from its first picture on.

        Raises:
            ValueError: as ``fit`` does, and for a label that is none of ``classes``.
        """
        first = not hasattr(self, "fitted_")
        features, labels = self._labelled(X, y, first=first)
        accepted = labels if classes is None else np.asarray(classes)
        if other := set(labels.tolist()).difference(accepted.tolist()):
            raise ValueError(f"the labels {sorted(other, key=str)} are none of the classes given")
        if not first and (labels.dtype.kind in "OUS") != (self.classes_.dtype.kind in "OUS"):
            raise ValueError(
                f"the labels were {self.classes_.dtype} and are {labels.dtype}; give more of the "
                "same kind, words or numbers"
            )
        if not first:
            features = np.concatenate([self.support_features_, features])
            labels = np.concatenate([self.support_labels_, labels])
        found, numbers = np.unique(labels, return_inverse=True)
        return self._fit(features, numbers, found)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the most probable class of every picture; of a folder in the order of names."""
        best = self.predict_proba(X).argmax(-1)
        labels: np.ndarray = self.classes_[best]
        return labels

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the calibrated probability [n classes] of every class, as in ``classes_``."""
        features = self._features(X)
        return probabilities(self.fitted_, features)

    def top_k(self, X: Any, k: int = 5) -> tuple[np.ndarray, np.ndarray]:  # noqa: N803
        """Return the ``k`` most probable classes [n k] of every picture and their probabilities.

        Fewer where there are fewer classes.
        """
        check_is_fitted(self)
        if not isinstance(k, Integral) or k < 1:
            raise UserError(f"k is {k!r}; give a whole number from 1")
        shares = self.predict_proba(X)
        order = np.argsort(-shares, axis=-1, kind="stable")[:, :k]
        return self.classes_[order], np.take_along_axis(shares, order, -1)

    def unknown(self, X: Any, threshold: Unknown = "auto") -> np.ndarray:  # noqa: N803
        """Say which pictures [n] are of none of the classes, which no probability can.

        Args:
            threshold: a probability below which the best class is none; ``"auto"`` goes by how
                unlike the labelled pictures a picture is, and learns from those held out.

        Raises:
            UserError: too few labelled pictures could be held out to tell.
        """
        check_is_fitted(self)
        if threshold != "auto" and not (isinstance(threshold, Real) and 0 <= threshold <= 1):
            raise UserError(f"threshold is {threshold!r}; give 'auto', or a probability, 0 to 1")
        features = self._features(X)
        return ~answer(self.fitted_, features, threshold).known

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the unit features [n dim] of pictures, or of features."""
        return self._features(X)

    def _features(self, X: Any) -> np.ndarray:  # noqa: N803
        check_is_fitted(self)  # `transform` may be asked for a table
        if (pictures := self._pictures(X)) is not None:
            return self._encode(pictures, self._saved.backbone)
        if isinstance(X, list | tuple) and not len(X):
            return np.zeros((0, self.support_features_.shape[1]), np.float32)
        with _in_one_line():
            given = validate_data(self, X, dtype=np.float32, reset=False, ensure_min_samples=0)
        return _unit(given)

    def kneighbors(
        self,
        X: Any = None,  # noqa: N803
        n_neighbors: int = 5,
        return_distance: bool = True,
    ) -> Any:
        """Find the labelled pictures that look most like each picture.

        Args:
            X: None asks for the neighbours of the labelled pictures, without themselves.

        Returns:
            Cosine distances [n n_neighbors], unless ``return_distance`` is false, and the places
            of the neighbours among the labelled pictures, nearest first.
        """
        check_is_fitted(self)
        most = len(self.support_features_) - (X is None)
        if not isinstance(n_neighbors, Integral):
            raise UserError(f"n_neighbors is {n_neighbors!r}; give a whole number")
        if not 1 <= n_neighbors <= most:
            raise ValueError(f"n_neighbors is {n_neighbors}; it must be from 1 to {most}")
        asked = self.support_features_ if X is None else self._features(X)
        distances = 1 - asked @ self.support_features_.T
        if X is None:
            np.fill_diagonal(distances, np.inf)
        nearest = np.argsort(distances, axis=-1, kind="stable")[:, :n_neighbors]
        if not return_distance:
            return nearest
        return np.take_along_axis(distances, nearest, -1), nearest

    def save(self, folder: str | Path) -> None:
        """Write the fitted classifier into a new folder: safetensors and JSON, nothing that runs.

        Raises:
            UserError: there is something at that place, it cannot be written, or the labels are
                neither words nor numbers.
        """
        check_is_fitted(self)
        save_classifier(Path(folder), self._saved)

    @classmethod
    def load(cls, folder: str | Path) -> "FewShotClassifier":
        """Read a classifier that ``save`` wrote. The CLIP is loaded when a picture is asked.

        Raises:
            UserError: there is none, it is damaged, or of a later version.
        """
        saved = load_classifier(Path(folder))
        if other := set(saved.settings).difference(cls._get_param_names()):
            raise UserError(f"{folder} has settings that are unknown here: {some(sorted(other))}")
        return cls(**saved.settings)._keep(saved)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
    ) -> str:
        """Upload what ``save`` writes to the Hugging Face hub; return the address of the commit.

        Args:
            private: whether only its owner sees a repository that is made now.
            revision: a branch, made if it is not there.
            token: that of ``hf auth login`` if None.

        Raises:
            UserError: there is no token, the hub refuses or cannot be reached; or see ``save``.
        """
        check_is_fitted(self)
        return push_classifier(self._saved, Push(repo_id, private, revision, token))

    @classmethod
    def from_pretrained(
        cls, repo_or_folder: str | Path, *, revision: str | None = None, token: str | None = None
    ) -> "FewShotClassifier":
        """Load a classifier of a folder, or of a repository of the hub: data alone, and no code.

        Args:
            repo_or_folder: what ``save`` wrote, or ``OWNER/NAME``; a folder of that name wins.

        Raises:
            UserError: there is none, it is damaged or of another kind, or it cannot be had.
        """
        found = find_files(
            repo_or_folder, FILES, "saved classifier", revision=revision, token=token
        )
        return cls.load(found)

    def _keep(self, saved: Saved) -> "FewShotClassifier":
        self._saved, self.fitted_, self.classes_ = saved, saved.classifier, saved.classes
        self.support_features_, self.n_features_in_ = saved.features, saved.features.shape[1]
        self.support_labels_ = saved.classes[saved.numbers]
        return self

    def _labelled(self, x: Any, y: Any, *, first: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return unit features and labels."""
        check_settings(self.get_params(deep=False))
        if y is None:
            raise ValueError(
                "requires y to be passed, but the target y is None; from_folder takes the names of "
                "sub-folders for labels"
            )
        pictures = self._pictures(x)
        if pictures is None:
            with _in_one_line():
                given, y = validate_data(self, x, y, dtype=np.float32, reset=first)
            return _unit(given), as_labels(y)
        labels = as_labels(y)
        if len(labels) != len(pictures):
            raise ValueError(f"{len(pictures)} pictures have {len(labels)} labels")
        if not len(labels):
            raise UserError("there are no pictures to learn from; give one of each class or more")
        return self._encode(pictures, {} if first else self._saved.backbone), labels

    def _fit(
        self,
        features: np.ndarray,
        numbers: np.ndarray,
        classes: np.ndarray,
        text: np.ndarray | None = None,
    ) -> "FewShotClassifier":
        """Fit to unit features of the classes of these numbers."""
        names = [str(name) for name in classes.tolist()]
        scale, origin, missing = LOGIT_SCALE, dict[str, str](), dict[str, str]()
        if self.backbone is not None:
            clip = load_encoder(self._spec()).backbone
            scale, origin = clip.logit_scale, {"id": clip.id, "sha256": clip.sha256}
            missing = no_text(clip.id) if clip.tokenizer is None else {}
            text = text_of_classes(clip, names, self.templates) if text is None else text
            if text.shape[1] != features.shape[1]:
                raise ValueError(
                    f"features of width {features.shape[1]} are not of the backbone {clip.id}, "
                    f"whose features have width {text.shape[1]}; give backbone=None to use them "
                    "without text"
                )
        draws = labelled_support(features, numbers, text, scale, self.shots)
        spec = FeatureSpec(features.shape[1], origin)
        workdir = None if self.checkpoint is None else Path(self.checkpoint)
        methods = methods_for_pictures(self.method, spec, workdir, missing)
        classifier = fit_support(
            draws, names, methods, calibrate=self.calibrate, own_text=text is not None
        )
        named = np.asarray(draws.task.text[0])
        return self._keep(
            Saved(classifier, classes, features, numbers, named, scale, origin, self.get_params())
        )

    def _pictures(self, x: Any) -> list[Any] | None:
        """List the pictures; None if there are none among what was given."""
        bare = self.backbone is None
        if isinstance(x, np.ndarray) and x.ndim == 2 and x.dtype.kind not in "OUS":
            # Bytes are no features of a CLIP: with one they are a grey picture.
            return [x] if x.dtype == np.uint8 and not bare else None
        pictures = as_pictures(x)
        if bare and pictures:
            raise UserError("pictures need a backbone; give backbone='mini' or another CLIP")
        return pictures if pictures or not bare else None

    def _encode(self, pictures: list[Any], fitted_to: Mapping[str, str]) -> np.ndarray:
        """Return the features of pictures, of the CLIP that was fitted to if there is one."""
        clip = load_encoder(self._spec(warn=not hasattr(self, "fitted_")))
        if fitted_to.get("sha256", clip.backbone.sha256) != clip.backbone.sha256:
            raise UserError(
                f"the classifier was fitted to features of other weights than {clip.backbone.id} "
                f"has now, {fitted_to.get('id')}; take those, or fit it again"
            )
        return clip.encode_image(pictures, verbose=self.verbose)

    def _spec(self, *, warn: bool = False) -> str:
        """Return the CLIP that is meant."""
        if self.backbone != "default":
            return str(self.backbone)
        if warn:
            remedy = f"give backbone={PHOTO_BACKBONE!r}, or 'mini' if that is meant"
            warnings.warn(icons_only(remedy), stacklevel=5)
        return DEFAULT_BACKBONE


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Leave of what scikit-learn says what is wrong, and what to reshape."""
    try:
        yield
    except ValueError as error:
        first, *others = str(error).splitlines()
        remedy = [line for line in others if line.startswith("Reshape")]
        raise ValueError(" ".join([first, *remedy])) from error


def _unit(features: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(features.astype(np.float64), axis=-1, keepdims=True)
    unit: np.ndarray = (features / np.where(norms > 0, norms, 1)).astype(np.float32)
    return unit
