"""A classifier fitted to labelled pictures, and what it says of others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from fsclip_jax.errors import UserError
from fsclip_jax.fitting.checkpoints import FeatureSpec
from fsclip_jax.fitting.draws import Draws
from fsclip_jax.fitting.engine import process_engine
from fsclip_jax.fitting.fitted import Fitted, start_logits
from fsclip_jax.fitting.inputs import not_given_by
from fsclip_jax.fitting.methods import Method, choose_method, usable
from fsclip_jax.prediction.auto import (
    AUTO,
    SHORT_LIST,
    WITHOUT_TEXT,
    Tried,
    best_of,
    try_methods,
)
from fsclip_jax.prediction.calibrate import (
    Temperature,
    calibrated,
    fit_temperature,
    text_temperature,
)
from fsclip_jax.prediction.held_out import BATCH, HeldOut, folds_of
from fsclip_jax.prediction.quality import Quality, Score, assess, score_of
from fsclip_jax.prediction.shots import Shots, as_families, closest, shots_of
from fsclip_jax.prediction.unknown import ENOUGH, Familiar, find_threshold, is_familiar
from fsclip_jax.typing import Array, Bool, Float, Int


class Labelled(NamedTuple):
    """The labelled pictures, and what fits to the others say of each of them."""

    shots: Shots
    held: HeldOut


@dataclass(frozen=True)
class MethodScore:
    """How a method did on the labelled pictures that were held out."""

    method: str
    score: Score


@dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier of image features.

    Attributes:
        tried: the methods that were tried and how they did; the chosen one is ``method``.
        familiar: what is not unknown; None where too few pictures could be held out to tell.
    """

    fitted: Fitted
    class_names: tuple[str, ...]
    temperature: Temperature
    record: dict[str, Any]
    labelled: Labelled
    tried: tuple[MethodScore, ...] = ()
    familiar: Familiar | None = None

    @property
    def method(self) -> Method:
        """What was fitted."""
        return self.fitted.method

    @cached_property
    def quality(self) -> Quality:
        """What the held-out pictures say of the fit; pictures by their rows."""
        shots, held = self.labelled
        shares = np.asarray(calibrated(held.logits, self.temperature))
        return assess(held, shares, shots, self.class_names)


_NOT_GIVEN = not_given_by("a folder of pictures does not give")


def refuse_for_pictures(name: str | None) -> None:
    """Refuse what :func:`methods_for_pictures` does whatever the backbone, before one is loaded."""
    if name not in (None, AUTO):
        usable(name, _NOT_GIVEN)


def methods_for_pictures(
    name: str | None,
    features: FeatureSpec,
    checkpoint: Path | None,
    missing: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Method, ...]:
    """Find the methods that may learn from a folder of pictures; of several the best is taken.

    ``auto`` stands for a short list, and is what is done where neither method nor checkpoint is
    given; a checkpoint that comes with it is tried first.

    Args:
        missing: says why there is no text, if there is none.

    Raises:
        UserError: see :func:`~fsclip_jax.fitting.methods.choose_method`.
    """
    short_list = WITHOUT_TEXT if "text" in missing else SHORT_LIST
    missing = {**_NOT_GIVEN, **missing}

    def find(name: str | None, checkpoint: Path | None) -> Method:
        return choose_method(name, features, checkpoint, default=short_list[0], missing=missing)

    if name != AUTO and not (name is None and checkpoint is None):
        return (find(name, checkpoint),)
    trained = () if checkpoint is None else (find(None, checkpoint),)
    return (*trained, *(find(each, None) for each in short_list))


def fit_support(
    draws: Draws,
    class_names: Sequence[str],
    methods: Sequence[Method],
    *,
    calibrate: bool = True,
    own_text: bool = True,
) -> Classifier:
    """Fit a method to a support; settings, method, temperature and more from shots held out of it.

    Args:
        methods: of several the one that :func:`~fsclip_jax.prediction.auto.best_of` says.
        calibrate: also fit a temperature to held-out shots; otherwise it is 1.
        own_text: false where the text is the mean of the pictures, for lack of another.

    Example:
        >>> import jax
        >>> from fsclip_jax.adapters.catalog import example_task
        >>> from fsclip_jax.fitting.draws import draws_of
        >>> task, query = example_task(way=3, shot=8)
        >>> draws = draws_of(jax.tree.map(lambda leaf: leaf[None], task))
        >>> methods = methods_for_pictures("gda", FeatureSpec(8), None)
        >>> classifier = fit_support(draws, "abc", methods)
        >>> probabilities(classifier, query.features).sum(-1).round(3).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
        >>> classifier.quality.held_out.score.asked
        24
    """
    shots = shots_of(draws)
    draws = as_families(draws, shots.twins)
    tried = try_methods(process_engine(), methods, draws, folds_of(draws), own_text=own_text)
    best = tried[best_of([each.held for each in tried])]
    temperature = Temperature(1.0, 0)
    if calibrate:
        temperature = fit_temperature(
            best.held.logits,
            best.held.labels,
            expected=text_temperature(draws) if own_text else 1.0,
            pictures=int(shots.mask.sum()),
        )
    scores = tuple(_score(each) for each in tried)
    record = {
        **_trained(best.method),
        "method": best.method.name,
        "tried": [asdict(score) for score in scores],
        "selection": best.fitted.choice.record,
        "temperature": temperature.value,
    }
    labelled, familiar = Labelled(shots, best.held), find_threshold(best.held)
    names = tuple(class_names)
    return Classifier(best.fitted, names, temperature, record, labelled, scores, familiar)


def _score(tried: Tried) -> MethodScore:
    right = tried.held.right
    return MethodScore(tried.method.name, score_of(int(right.sum()), len(right)))


def _trained(method: Method) -> dict[str, Any]:
    """Where learned parameters came from."""
    if method.trained is None:
        return {}
    meta = method.trained.meta
    kept = {name: meta[name] for name in ("sha256", "backbone", "data", "steps") if name in meta}
    return {"checkpoint": str(method.trained.path), **kept}


def probabilities(
    classifier: Classifier, features: Float[Array | np.ndarray, "n dim"]
) -> Float[np.ndarray, "n way"]:
    """Return the calibrated probability of every class for every image."""
    logits = _start_logits(classifier, features)()
    return np.asarray(calibrated(logits, classifier.temperature))


Unknown: TypeAlias = float | Literal["auto"]
"""Where unknown begins: below a probability, or below what looks familiar."""


class Answered(NamedTuple):
    """What a classifier says of pictures.

    Attributes:
        similarity: largest cosine to a labelled picture.
        nearest: row of that picture.
        known: false for a picture of none of the classes.
    """

    probabilities: Float[np.ndarray, "n way"]
    similarity: Float[np.ndarray, " n"]
    nearest: Int[np.ndarray, " n"]
    known: Bool[np.ndarray, " n"]


def answer(
    classifier: Classifier,
    features: Float[Array | np.ndarray, "n dim"],
    unknown: Unknown = 0.0,
) -> Answered:
    """Classify pictures, and say which are of none of the classes.

    Raises:
        UserError: ``auto``, and too few labelled pictures could be held out to tell.
    """
    return start_answer(classifier, features, unknown)()


def start_answer(
    classifier: Classifier,
    features: Float[Array | np.ndarray, "n dim"],
    unknown: Unknown = 0.0,
) -> Callable[[], Answered]:
    """Begin :func:`answer`; what is returned waits for the answer."""
    logits_of_these = _start_logits(classifier, features)

    def wait() -> Answered:
        logits = logits_of_these()
        shares = np.asarray(calibrated(logits, classifier.temperature))
        similarity, nearest = closest(classifier.labelled.shots, features)
        if unknown == "auto":
            known = is_familiar(logits, similarity, require_familiar(classifier))
        else:
            known = shares.max(-1) >= unknown
        return Answered(shares, similarity, nearest, known)

    return wait


def require_familiar(classifier: Classifier) -> Familiar:
    """Return what is familiar.

    Raises:
        UserError: too few labelled pictures could be held out to tell.
    """
    if classifier.familiar is None:
        raise UserError(
            f"unknown 'auto' learns from labelled pictures that are held out, and needs {ENOUGH} "
            f"of them: there are {len(classifier.labelled.held.labels)}; give more pictures of a "
            "class, or a probability"
        )
    return classifier.familiar


def _start_logits(
    classifier: Classifier, features: Float[Array | np.ndarray, "n dim"]
) -> Callable[[], Float[np.ndarray, "n way"]]:
    wait = start_logits(classifier.fitted, np.asarray(features, np.float32), BATCH)
    return lambda: wait()[0]
