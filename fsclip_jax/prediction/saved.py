"""A fitted classifier of pictures in a folder: safetensors and JSON, and nothing that runs."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fsclip_jax.adapters.checkpoint import WEIGHTS_FILE, restore_adapter, save_adapter
from fsclip_jax.clip.scale import check_scale
from fsclip_jax.durable import new_folder, write_file
from fsclip_jax.episodes.task import take_tasks
from fsclip_jax.errors import UserError, first_line
from fsclip_jax.fitting.checkpoints import Checkpoint
from fsclip_jax.fitting.draws import Draws
from fsclip_jax.fitting.engine import fit_key
from fsclip_jax.fitting.fitted import Fitted
from fsclip_jax.fitting.methods import Method
from fsclip_jax.fitting.selection import Choice
from fsclip_jax.hub import Push, parse_id, push_folder
from fsclip_jax.json_files import read_layout
from fsclip_jax.prediction.calibrate import Temperature
from fsclip_jax.prediction.card import classifier_card
from fsclip_jax.prediction.classifier import Classifier, Labelled, MethodScore
from fsclip_jax.prediction.held_out import HeldOut
from fsclip_jax.prediction.shots import shots_of
from fsclip_jax.prediction.support import labelled_support
from fsclip_jax.prediction.unknown import find_threshold
from fsclip_jax.report.card import write_card
from fsclip_jax.typing import Float, Int, State

ARRAYS, DESCRIPTION = "classifier.safetensors", "classifier.json"
FILES = (WEIGHTS_FILE, ARRAYS, DESCRIPTION)
"""What is read of a saved classifier, and fetched of one on the hub."""
_FORM = '{"format": 1, "classes": [...], ...}'


class Saved(NamedTuple):
    """All that a classifier is: what was fitted, and what it was fitted to."""

    classifier: Classifier
    classes: np.ndarray
    """The labels, as they were given."""
    features: Float[np.ndarray, "n dim"]
    """Of the labelled pictures."""
    numbers: Int[np.ndarray, " n"]
    """Places of their labels among the classes."""
    text: Float[np.ndarray, "way dim"]
    logit_scale: float
    backbone: dict[str, str]
    """``id`` and ``sha256`` of the CLIP, if there is one."""
    settings: dict[str, Any]
    """Arguments of ``FewShotClassifier``."""


@dataclass(frozen=True)
class _Description:
    format: Literal[1]
    method: str
    classes: list[str | int | float | bool]
    objects: bool
    logit_scale: float
    temperature: Temperature
    tried: tuple[MethodScore, ...]
    record: dict[str, Any]
    settings: dict[str, Any]
    backbone: dict[str, str]

    def __post_init__(self) -> None:
        """Refuse numbers that no classifier has."""
        check_scale(self.logit_scale, "it")
        value, even = self.temperature.value, self.temperature.even
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"the temperature is {value}, not a positive number")
        if not 0 <= even < 1:
            raise ValueError(f"the share of all classes is {even}, not from 0 to 1")


def save_classifier(folder: Path, saved: Saved) -> None:
    """Write a classifier into a new folder.

    Raises:
        UserError: there is something at that place, it cannot be written, or the labels are
            neither words nor numbers.
    """
    classifier, method = saved.classifier, saved.classifier.method
    labels = saved.classes.tolist()
    if odd := [label for label in labels if not isinstance(label, str | int | float)]:
        raise UserError(
            f"a label of the type {type(odd[0]).__name__} cannot be saved; fit to labels that are "
            "words or numbers"
        )
    leaves = jax.tree.leaves(classifier.fitted.state)
    # A scalar's array must stay an array, and safetensors wants it contiguous.
    arrays = {f"state.{place}": np.array(leaf, order="C") for place, leaf in enumerate(leaves)}
    arrays |= {f"held.{name}": part for name, part in classifier.labelled.held._asdict().items()}
    arrays |= {"features": saved.features, "numbers": saved.numbers, "text": saved.text}
    described = _Description(
        format=1,
        method=method.name,
        classes=labels,
        objects=saved.classes.dtype == object,
        logit_scale=saved.logit_scale,
        temperature=classifier.temperature,
        tried=classifier.tried,
        record=classifier.record,
        settings=saved.settings,
        backbone=saved.backbone,
    )
    trained = {} if method.trained is None else method.trained.meta
    meta = {**trained, "dim": saved.features.shape[1]}
    with new_folder(folder) as place:
        save_adapter(place, method.adapter.name, method.params, meta, adapter=method.adapter)
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        write_file(place / ARRAYS, save(contiguous))
        text = json.dumps(dataclasses.asdict(described), indent=2, default=str, ensure_ascii=False)
        try:
            write_file(place / DESCRIPTION, text.encode() + b"\n")
        except UnicodeEncodeError as error:
            raise UserError(
                f"{text[error.start - 20 : error.end + 20]} is no UTF-8, as labels and paths of a "
                "saved classifier are; rename it"
            ) from error
        write_card(place, classifier_card(classifier, saved.backbone))


def push_classifier(saved: Saved, to: Push) -> str:
    """Upload a classifier with its card; return the address of the commit.

    Of where a checkpoint lay on this machine only the last name is told.

    Raises:
        UserError: see :func:`save_classifier` and ``hub.push_folder``.
    """
    settings, record = _without_places(saved.settings), _without_places(saved.classifier.record)
    classifier = dataclasses.replace(saved.classifier, record=record)
    with TemporaryDirectory() as place:
        folder = Path(place) / "classifier"
        save_classifier(folder, saved._replace(classifier=classifier, settings=settings))
        return push_folder(folder, to, f"Classifier of {len(saved.classes)} classes")


def _without_places(told: Any) -> Any:
    """Leave the last name of where a checkpoint lies; of one on the hub all."""
    if not isinstance(told, dict):
        return told
    shown = {name: _without_places(value) for name, value in told.items()}
    if shown.get("checkpoint") is not None:
        place = Path(shown["checkpoint"])
        on_hub = not place.exists() and parse_id(place.as_posix()) is not None
        shown["checkpoint"] = place.as_posix() if on_hub else place.name
    return shown


def load_classifier(folder: Path) -> Saved:
    """Read what :func:`save_classifier` wrote, and check it.

    Raises:
        UserError: there is none, it is damaged, or of another version.
    """
    if not (folder / DESCRIPTION).is_file():
        raise UserError(
            f"no classifier at {folder}; give a folder that FewShotClassifier.save wrote"
        )
    about = read_layout(folder / DESCRIPTION, _Description, "saved classifier", _FORM)
    adapter, params, meta = restore_adapter(folder / WEIGHTS_FILE)
    trained = about.record.get("checkpoint")
    origin = Checkpoint(Path(str(trained)), adapter, params, meta) if trained else None
    method = Method(about.method, adapter, params, {}, origin)
    choice = Choice(params, False, about.record.get("selection", {}))
    try:
        arrays = load((folder / ARRAYS).read_bytes())
        features, numbers, text = (arrays.pop(name) for name in ("features", "numbers", "text"))
        draws = _draws(features, numbers, text, about)
        state = _state(method, draws, arrays)
        labelled = Labelled(shots_of(draws), _held(draws, arrays))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"{folder / ARRAYS} is damaged ({first_line(error)}); save the classifier again"
        ) from error
    settings = dict(about.settings)
    given = settings.get("checkpoint")
    if trained and isinstance(given, str) and not Path(given).exists() and parse_id(given) is None:
        settings["checkpoint"] = str(folder)  # which has the same parameters
    names = tuple(map(str, about.classes))
    classifier = Classifier(
        Fitted(method, choice, state, 1, 0.0),
        names,
        about.temperature,
        about.record,
        labelled,
        about.tried,
        find_threshold(labelled.held),
    )
    classes = np.asarray(about.classes, object if about.objects else None)
    return Saved(
        classifier,
        classes,
        features,
        numbers,
        text,
        about.logit_scale,
        about.backbone,
        settings,
    )


def _draws(
    features: np.ndarray, numbers: np.ndarray, text: np.ndarray, about: _Description
) -> Draws:
    """Lay out the support that was fitted to."""
    way = len(about.classes)
    if (
        len(text) != way
        or len(numbers) != len(features)
        or set(numbers.tolist()) != set(range(way))
    ):
        raise ValueError("its classes, labels and features do not fit each other")
    if not (np.isfinite(features).all() and np.isfinite(text).all()):
        raise ValueError("some of its numbers are not finite")
    return labelled_support(features, numbers, text, about.logit_scale, about.settings.get("shots"))


def _held(draws: Draws, arrays: dict[str, np.ndarray]) -> HeldOut:
    """Return the answers to the pictures that were held out."""
    held = HeldOut(*(arrays[f"held.{name}"] for name in HeldOut._fields))
    way, shots = draws.task.support_mask.shape[1:]
    count = len(held.labels)
    shapes = [part.shape for part in held]
    if shapes != [(count, way), *[(count,)] * 4] or not np.isfinite(held.logits).all():
        raise ValueError("what was held out is not one row of numbers a picture")
    if not all(part.dtype == np.int32 for part in (held.labels, held.slots)):
        raise ValueError("labels that were held out are no whole numbers")
    if count and not (held.slots.min() >= 0 and held.slots.max() < way * shots):
        raise ValueError("pictures that were held out are none of the labelled ones")
    if not np.array_equal(held.labels, held.slots // shots):
        raise ValueError("pictures that were held out have other labels")
    return held


def _state(method: Method, draws: Draws, arrays: dict[str, np.ndarray]) -> State:
    """Lay stored arrays out as what the method's ``fit`` returns for this support."""
    task = take_tasks(draws.task, 0)
    made = jax.eval_shape(method.adapter.fit, method.params, task, fit_key(0))
    leaves, tree = jax.tree.flatten(made)
    found = [arrays[f"state.{place}"] for place in range(len(leaves))]
    for leaf, array in zip(leaves, found, strict=True):
        if array.shape != (1, *leaf.shape) or array.dtype != leaf.dtype:
            raise ValueError(
                f"an array is {array.dtype}{array.shape}, not {leaf.dtype}{leaf.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError("some of its numbers are not finite")
    return jax.tree.unflatten(tree, map(jnp.asarray, found))
