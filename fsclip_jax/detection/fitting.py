"""Fit methods to a few annotated boxes of every class, several draws at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import Adapter, grids_of
from fsclip_jax.data.coco_files import Boxes, Category, Proposals
from fsclip_jax.detection.crops import open_picture
from fsclip_jax.detection.models import Boxed, Model
from fsclip_jax.detection.scoring import SCORINGS, Found, Scoring
from fsclip_jax.detection.support import make_tasks, plan_support
from fsclip_jax.episodes.task import Query, Task, take_tasks
from fsclip_jax.features.buckets import padded
from fsclip_jax.fitting.draws import Draws
from fsclip_jax.fitting.engine import Engine, fit_key
from fsclip_jax.fitting.methods import Method
from fsclip_jax.fitting.selection import fixed, select_held_out, select_on
from fsclip_jax.typing import Array, Float, Params, State


class Split(NamedTuple):
    """Annotated pictures with their folder and, where they are given, proposals."""

    data: Boxes
    folder: Path
    proposals: Mapping[int, Proposals]


@dataclass(frozen=True)
class Fitted:
    """A method fitted to every draw of the support.

    Attributes:
        method: the method.
        state: what its fit returned, with a leading axis of draws.
        scoring: how its logits become scores.
        selection: how its settings were chosen, JSON values.
    """

    method: Method
    state: State
    scoring: Scoring
    selection: Mapping[str, Any]


class Supported(NamedTuple):
    """The support of all draws.

    Attributes:
        task: tasks with a leading axis of draws.
        background: mean feature of boxes without an object, by draw.
    """

    task: Task
    background: Float[np.ndarray, "draw dim"]


def encode_support(
    model: Model, split: Split, categories: Sequence[Category], shots: int, draws: int
) -> Supported:
    """Draw boxes of every class and lay their features out as tasks.

    Args:
        model: what describes the boxes.
        split: annotations to draw from.
        categories: the classes, found by their names.
        shots: boxes of a class.
        draws: how often.

    Returns:
        The support.

    Raises:
        UserError: a class has no box, or a picture cannot be read.
    """
    plan = plan_support(split.data, categories, shots, draws)
    opened = ((open_picture(split.folder, need.picture), need.boxes) for need in plan.needed)
    features = list(model.describe(opened))
    text = model.text([category.name for category in categories])
    return Supported(*make_tasks(plan, features, text, model.logit_scale))


def encode_objects(model: Model, split: Split, categories: Sequence[Category]) -> Query:
    """Describe the annotated objects of a split, to choose settings on.

    Args:
        model: what describes the boxes.
        split: the annotated pictures.
        categories: the classes, found by their names.

    Returns:
        The objects as queries.
    """
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


def fit(methods: Sequence[Method], supported: Supported, val_objects: Query | None) -> list[Fitted]:
    """Fit methods to every draw, with searched scalars chosen first.

    They are chosen on the annotated objects of val; without val, on shots held out in turn.

    Args:
        methods: the methods.
        supported: the support.
        val_objects: objects of val, if there are any.

    Returns:
        The fitted methods, with the first scoring there is.
    """
    task, engine = supported.task, Engine()
    draws = Draws(task, task.support, jnp.full(task.support_mask.shape, -1, jnp.int32))
    fitted = []
    for method in methods:
        adapter, params = method.adapter, method.params
        if not grids_of(adapter):
            choice = fixed(adapter, params, "nothing to choose")
        elif val_objects is not None and val_objects.labels.size:
            rule = "most objects of val classified right"
            choice = select_on(engine, adapter, params, task, val_objects, rule)
        else:
            choice = select_held_out(engine, adapter, params, draws)
        states = [
            _fit_one(adapter, _of_draw(choice.params, choice.per_draw, d), take_tasks(task, d), d)
            for d in range(task.support.shape[0])
        ]
        state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        fitted.append(Fitted(method, state, SCORINGS[0], _plain(choice.record)))
    return fitted


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.tolist() if hasattr(v, "tolist") else v for k, v in record.items()}


def _of_draw(params: Params, per_draw: bool, draw: int) -> Params:
    return jax.tree.map(lambda leaf: leaf[draw], params) if per_draw else params


@partial(jax.jit, static_argnums=0)
def _fit_one(adapter: Adapter, params: Params, task: Task, draw: Array | int) -> State:
    return adapter.fit(params, task, fit_key(draw))


@partial(jax.jit, static_argnums=0)
def _logits(adapter: Adapter, state: State, query: Float[Array, "region dim"]) -> Array:
    return jax.vmap(adapter.logits, in_axes=(0, None))(state, query)


def region_logits(one: Fitted, found: Found) -> Float[np.ndarray, "draw region way"]:
    """Return what a fitted method says of the regions of an image, for every draw.

    Args:
        one: the fitted method.
        found: the regions. They are padded to a power of two, so that few shapes are compiled.

    Returns:
        Logits.
    """
    count = len(found.features)
    size = max(32, 1 << max(0, count - 1).bit_length())
    query = jnp.asarray(padded(found.features, size))
    return np.asarray(_logits(one.method.adapter, one.state, query), np.float32)[:, :count]
