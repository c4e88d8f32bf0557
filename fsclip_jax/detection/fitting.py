"""Fit methods to a few annotated boxes of every class, several draws at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np

from fsclip_jax.data.coco_files import Box, Boxes, Category, Picture, Proposals
from fsclip_jax.detection.crops import open_picture
from fsclip_jax.detection.models import Model
from fsclip_jax.detection.scoring import SCORINGS, Found, Scoring
from fsclip_jax.detection.support import SupportPlan, make_tasks
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.fitting.draws import draws_of
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.fitting.fitted import Fitted, choose_setting, fit, logits_of
from fsclip_jax.fitting.methods import Method
from fsclip_jax.fitting.selection import Val
from fsclip_jax.interim import Interim
from fsclip_jax.typing import Float

Item = TypeVar("Item")

RUN = 2048
"""Boxes that are encoded between two parts that are kept."""


def in_runs(items: Sequence[Item], boxes: Sequence[int]) -> Iterator[Sequence[Item]]:
    """Cut pictures into runs of about ``RUN`` boxes, each of which becomes a part.

    Example:
        >>> [len(run) for run in in_runs("abcde", [1500, 1500, 10, 5000, 1])]
        [2, 2, 1]
    """
    first = total = 0
    for place, count in enumerate(boxes, 1):
        total += count + 1
        if total >= RUN or place == len(items):
            yield items[first:place]
            first, total = place, 0


class Split(NamedTuple):
    """Annotated pictures with their folder and, where they are given, proposals."""

    data: Boxes
    folder: Path
    proposals: Mapping[int, Proposals]


@dataclass(frozen=True)
class ScoredMethod:
    """A method fitted to every draw of the support, and how its logits become scores."""

    fitted: Fitted
    scoring: Scoring
    selection: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the method."""
        return self.fitted.method.name


class Supported(NamedTuple):
    """The support of all draws; ``background`` is the mean of boxes without an object, by draw."""

    task: Task
    background: Float[np.ndarray, "draw dim"]


def encode_support(
    model: Model, folder: Path, plan: SupportPlan, categories: Sequence[Category], interim: Interim
) -> Supported:
    """Lay the features of the boxes of all draws out as tasks.

    Raises:
        UserError: a picture cannot be read.
    """
    asked = [(need.picture, need.boxes) for need in plan.needed]
    features = list(_described(model, folder, asked, interim, "support"))
    text = model.text([category.name for category in categories])
    return Supported(*make_tasks(plan, features, text, model.logit_scale))


def encode_objects(
    model: Model, split: Split, categories: Sequence[Category], interim: Interim
) -> Query:
    """Describe the annotated objects of a split, to choose settings on."""
    row = {category.name: i for i, category in enumerate(categories)}
    label = {c.id: row[c.name] for c in split.data.categories if c.name in row}
    by_image: dict[int, list[Box]] = {picture.id: [] for picture in split.data.pictures}
    for box in split.data.boxes:
        if not box.crowd and min(box.bbox[2:]) >= 1 and box.category in label:
            by_image[box.image].append(box)
    shown = [(picture, by_image[picture.id]) for picture in split.data.pictures]
    asked = [(p, np.array([box.bbox for box in some], np.float64)) for p, some in shown if some]
    labels = [label[box.category] for _, some in shown for box in some]
    described = _described(model, split.folder, asked, interim, "objects")
    features = jnp.asarray(np.concatenate([np.zeros((0, model.dim), np.float32), *described]))
    return Query(features, jnp.asarray(labels, jnp.int32), jnp.ones(len(labels), bool))


def _described(
    model: Model,
    folder: Path,
    asked: Sequence[tuple[Picture, Float[np.ndarray, "_ 4"]]],
    interim: Interim,
    name: str,
) -> Iterator[Float[np.ndarray, "_ dim"]]:
    for some in in_runs(asked, [len(boxes) for _, boxes in asked]):

        def make(some: Sequence[tuple[Picture, np.ndarray]] = some) -> dict[str, np.ndarray]:
            opened = ((open_picture(folder, picture), boxes) for picture, boxes in some)
            return {str(place): found for place, found in enumerate(model.describe(opened))}

        found = interim.arrays(f"{name} from {some[0][0].id}", make)
        yield from (found[str(place)] for place in range(len(some)))


def fit_methods(
    methods: Sequence[Method], supported: Supported, val_objects: Query | None
) -> list[ScoredMethod]:
    """Fit methods to every draw, with searched scalars chosen on val, else on held-out shots."""
    task, engine = supported.task, Engine()
    val = None
    if val_objects is not None:
        val = Val(task, val_objects, "most objects of val classified right")
    scored = []
    for method in methods:
        choice = choose_setting(engine, method, draws_of(task), val=val)
        fitted = fit(engine, method, choice, task)
        scored.append(ScoredMethod(fitted, SCORINGS[0], choice.record))
    return scored


def region_logits(fitted: Fitted, found: Found) -> Float[np.ndarray, "draw region way"]:
    """Return the logits of the regions of an image, for every draw.

    The regions are padded to a power of two, so that few shapes are compiled.
    """
    size = max(32, 1 << max(0, len(found.features) - 1).bit_length())
    return logits_of(fitted, found.features, size)
