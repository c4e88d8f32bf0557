"""Fit methods to a few annotated boxes of every class, several draws at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fsclip_jax.data.coco_files import Boxes, Category, Proposals
from fsclip_jax.detection.crops import open_picture
from fsclip_jax.detection.models import Boxed, Model
from fsclip_jax.detection.scoring import SCORINGS, Found, Scoring
from fsclip_jax.detection.support import make_tasks, plan_support
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.fitting.draws import draws_of
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.fitting.fitted import Fitted, choose_setting, fit, logits_of
from fsclip_jax.fitting.methods import Method
from fsclip_jax.fitting.selection import Val
from fsclip_jax.typing import Float


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
    model: Model, split: Split, categories: Sequence[Category], shots: int, draws: int
) -> Supported:
    """Draw boxes of every class and lay their features out as tasks.

    Raises:
        UserError: a class has no box, or a picture cannot be read.
    """
    plan = plan_support(split.data, categories, shots, draws)
    opened = ((open_picture(split.folder, need.picture), need.boxes) for need in plan.needed)
    features = list(model.describe(opened))
    text = model.text([category.name for category in categories])
    return Supported(*make_tasks(plan, features, text, model.logit_scale))


def encode_objects(model: Model, split: Split, categories: Sequence[Category]) -> Query:
    """Describe the annotated objects of a split, to choose settings on."""
    row = {category.name: i for i, category in enumerate(categories)}
    label = {c.id: row[c.name] for c in split.data.categories if c.name in row}
    labels: list[int] = []

    def boxed() -> Iterator[Boxed]:
        by_image: dict[int, list[Any]] = {picture.id: [] for picture in split.data.pictures}
        for box in split.data.boxes:
            if not box.crowd and min(box.bbox[2:]) >= 1 and box.category in label:
                by_image[box.image].append(box)
        for picture in split.data.pictures:
            if mine := by_image[picture.id]:
                labels.extend(label[box.category] for box in mine)
                image = open_picture(split.folder, picture)
                yield image, np.array([box.bbox for box in mine], np.float64)

    found = [np.zeros((0, model.dim), np.float32), *model.describe(boxed())]
    features = jnp.asarray(np.concatenate(found))
    return Query(features, jnp.asarray(labels, jnp.int32), jnp.ones(len(labels), bool))


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
