"""Fit methods to boxes, choose their settings on val, detect, and judge."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import Adapter, grids_of
from fsclip_jax.detection.average_precision import (
    Detections,
    average_precision,
    most_detections,
)
from fsclip_jax.detection.boxes import keep_best, overlaps
from fsclip_jax.detection.coco import Boxes, Category, Proposals
from fsclip_jax.detection.crops import open_picture
from fsclip_jax.detection.models import Boxed, Model
from fsclip_jax.detection.scoring import (
    SCORINGS,
    Found,
    Scoring,
    score_owlvit,
    score_proposals,
)
from fsclip_jax.detection.support import make_tasks, plan_support
from fsclip_jax.episodes.task import Query, Task, take_tasks
from fsclip_jax.evaluation.draws import Draws
from fsclip_jax.evaluation.engine import Engine, fit_key
from fsclip_jax.evaluation.methods import Method
from fsclip_jax.evaluation.selection import fixed, select_held_out, select_on
from fsclip_jax.features.buckets import padded
from fsclip_jax.typing import Array, Float, Params, State

NMS = 0.5
"""Overlap above which the worse of two boxes of a class is dropped."""
_SCORING_DRAWS = 2
"""Draws that the scoring is chosen on: every setting costs an evaluation."""


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


Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _scores(
    model: Model, logits: np.ndarray, found: Found, background: np.ndarray, scoring: Scoring
) -> Float[np.ndarray, "region way"]:
    if model.proposes:
        return score_owlvit(logits, found, model.logit_scale)
    return score_proposals(logits, found, background, model.logit_scale, scoring)


def _rows(found: Found, over: np.ndarray, scores: np.ndarray, ids: np.ndarray, most: int) -> Rows:
    kept = keep_best(scores, over, most)
    image = np.full(len(kept.score), found.image, np.int64)
    return image, ids[kept.label], found.boxes[kept.region].astype(np.float64), kept.score


def _join(rows: Sequence[Rows]) -> Detections:
    return Detections(*(np.concatenate(part) for part in zip(*rows, strict=True)))


def choose_scoring(
    model: Model,
    fitted: Sequence[Fitted],
    supported: Supported,
    split: Split,
    categories: Sequence[Category],
    say: Callable[[str], None],
) -> list[Fitted]:
    """Choose for every method how its logits become scores: the best AP50 on val.

    The same settings are open to every method. An OWL-ViT has nothing to choose.

    Args:
        model: what describes the regions.
        fitted: the methods.
        supported: the support.
        split: val.
        categories: the classes.
        say: told of the progress.

    Returns:
        The methods with their scoring.
    """
    if model.proposes:
        return list(fitted)
    images = list(model.regions(split.folder, split.data.pictures, split.proposals))
    overs = [overlaps(found.boxes, found.boxes) > NMS for found in images]
    ids, most = _ids(split.data, categories), most_detections(split.data)
    chosen = []
    for one in fitted:
        logits = [region_logits(one, found)[:_SCORING_DRAWS] for found in images]
        points = []
        for scoring in SCORINGS:
            each = []
            for draw in range(len(logits[0])):
                rows = [
                    _rows(
                        found,
                        over,
                        _scores(model, z[draw], found, supported.background[draw], scoring),
                        ids,
                        most,
                    )
                    for found, over, z in zip(images, overs, logits, strict=True)
                ]
                each.append(average_precision(split.data, _known(_join(rows)), (0.5,)).mean())
            points.append(float(np.mean(each)))
        best = int(np.argmax(points))
        with_ = f"background {SCORINGS[best].background}, objectness {SCORINGS[best].objectness}"
        say(f"{one.method.name}: AP50 {points[best]:.1f} on val with {with_}")
        told = {"split": "val", "ap50": round(points[best], 3), **asdict(SCORINGS[best])}
        selection = {**one.selection, "scoring": told}
        chosen.append(Fitted(one.method, one.state, SCORINGS[best], selection))
    return chosen


def _known(found: Detections) -> Detections:
    rows = found.category >= 0
    return Detections(*(part[rows] for part in found))


def _ids(data: Boxes, categories: Sequence[Category]) -> np.ndarray:
    """Numbers that a file gives to the classes; -1 where it has no class of the name."""
    number = {category.name: category.id for category in data.categories}
    return np.array([number.get(category.name, -1) for category in categories])


def detect(
    model: Model,
    fitted: Sequence[Fitted],
    supported: Supported,
    split: Split,
    categories: Sequence[Category],
) -> dict[str, list[Detections]]:
    """Detect by every method and every draw, in one pass over the pictures.

    Args:
        model: what describes the regions.
        fitted: the methods.
        supported: the support.
        split: the pictures.
        categories: the classes.

    Returns:
        Detections by the name of the method, one for each draw, rounded as a file has them.
    """
    ids, most = _ids(split.data, categories), most_detections(split.data)
    rows: dict[str, list[list[Rows]]] = {
        one.method.name: [[] for _ in supported.background] for one in fitted
    }
    found_images: Iterable[Found] = model.regions(
        split.folder, split.data.pictures, split.proposals
    )
    for found in found_images:
        over = overlaps(found.boxes, found.boxes) > NMS
        for one in fitted:
            for draw, z in enumerate(region_logits(one, found)):
                scores = _scores(model, z, found, supported.background[draw], one.scoring)
                rows[one.method.name][draw].append(_rows(found, over, scores, ids, most))
    return {name: [_join(each).rounded() for each in draws] for name, draws in rows.items()}
