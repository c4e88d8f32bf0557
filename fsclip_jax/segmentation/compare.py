"""Compare methods by mean intersection over union, over several draws of the support."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from fsclip_jax.adapters.base import grids_of
from fsclip_jax.episodes.task import Query, Task, take_tasks
from fsclip_jax.fitting.engine import Engine, fit_key
from fsclip_jax.fitting.methods import Method
from fsclip_jax.fitting.selection import Choice, fixed, select_on
from fsclip_jax.report.intervals import Interval, confidence_interval, paired_difference
from fsclip_jax.segmentation.prepare import Parts, Points
from fsclip_jax.segmentation.score import class_ious, confusion
from fsclip_jax.typing import Array, State

CHUNK = 8192
"""Points that are classified together."""

SELECTION = 2_000
"""Points of val that searched scalars are chosen on."""


@dataclass(frozen=True, eq=False)
class Ready:
    """What all methods are compared on.

    Attributes:
        text: unit text features of the classes.
        logit_scale: of the backbone.
        novel: whether each class is novel.
        support: for every size of window the unit features of the labelled objects.
        val: for every size of window the points of val.
        test: the same of test.
        parts: of the pictures of test.
        things: whether each part is taken for a thing, the same for all methods.
    """

    text: Float[np.ndarray, "way dim"]
    logit_scale: float
    novel: Bool[np.ndarray, "way"]
    support: tuple[Float[np.ndarray, "objects dim"], ...]
    val: tuple[Points, ...]
    test: tuple[Points, ...]
    parts: Parts
    things: Bool[np.ndarray, "parts"]


def make_task(ready: Ready, scale: int, draws: Int[np.ndarray, "draw way shot"]) -> Task:
    """Lay the labelled objects out as tasks, one a draw.

    Args:
        ready: the features.
        scale: which size of window.
        draws: positions of the objects, -1 for none.

    Returns:
        Tasks with a leading axis of draws.
    """
    mask = draws >= 0
    support = ready.support[scale][np.where(mask, draws, 0)] * mask[..., None]
    count = len(draws)
    return Task(
        jnp.asarray(support, jnp.float32),
        jnp.asarray(mask),
        jnp.broadcast_to(jnp.asarray(ready.text), (count, *ready.text.shape)),
        jnp.full(count, ready.logit_scale, jnp.float32),
    )


def class_scores(
    engine: Engine, method: Method, choice: Choice, tasks: Task, draw: int, points: Points
) -> Float[np.ndarray, "n way"]:
    """Fit a method to a draw and classify points.

    Args:
        engine: keeps what was compiled.
        method: the method.
        choice: its parameters.
        tasks: with a leading axis of draws.
        draw: which of them.
        points: what to classify.

    Returns:
        Logits.
    """
    params = choice.params
    if choice.per_draw:
        params = jax.tree.map(lambda leaf: leaf[draw], params)
    adapter = method.adapter

    def fit(params: Any, task: Task, key: Array) -> State:
        return adapter.fit(params, task, key)

    state, _ = engine.run(("fit", adapter), fit, params, take_tasks(tasks, draw), fit_key(draw))
    features = points.features
    size = min(CHUNK, len(features))
    starts = [min(low, len(features) - size) for low in range(0, len(features), size)]
    out = np.empty((len(features), tasks.text.shape[1]), np.float32)
    for low in starts:
        block = jnp.asarray(features[low : low + size])
        out[low : low + size], _ = engine.run(("ask", adapter), adapter.logits, state, block)
    return out


def measure(
    ready: Ready,
    method: Method,
    draws: Int[np.ndarray, "draw way shot"],
    engine: Engine,
) -> tuple[Float[np.ndarray, "draw classes"], list[dict[str, Any]]]:
    """Measure a method on test, for every draw of the support.

    Args:
        ready: what it is measured on.
        method: the method.
        draws: positions of the labelled objects.
        engine: keeps what was compiled.

    Returns:
        Intersection over union of background and every class, and how scalars were chosen.
    """
    scales = range(len(ready.test))
    tasks = [make_task(ready, scale, draws) for scale in scales]
    choices = [
        _choose(engine, method, task, ready.val[scale])
        for scale, task in zip(scales, tasks, strict=True)
    ]
    ious = []
    for draw in range(len(draws)):
        logits = [
            class_scores(engine, method, choices[s], tasks[s], draw, ready.test[s]) for s in scales
        ]
        scores = ready.parts.average(ready.test, logits)
        predicted = np.where(ready.things, scores.argmax(1) + 1, 0)
        ious.append(class_ious(confusion(predicted, ready.parts.counts)))
    return np.stack(ious), [choice.record for choice in choices]


def _choose(engine: Engine, method: Method, tasks: Task, val: Points) -> Choice:
    if not grids_of(method.adapter):
        return fixed(method.adapter, method.params, "nothing to choose")
    rows = np.flatnonzero(val.labels > 0)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, SELECTION).astype(int))]
    query = Query(
        jnp.asarray(val.features[rows]),
        jnp.asarray(val.labels[rows] - 1, jnp.int32),
        jnp.ones(len(rows), bool),
    )
    rule = "points inside the objects of the val scenes (base classes)"
    return select_on(engine, method.adapter, method.params, tasks, query, rule)


def compare(
    ready: Ready,
    methods: Sequence[Method],
    draws: Mapping[int, Int[np.ndarray, "draw way shot"]],
    say: Callable[[str, int, Mapping[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure methods over numbers of shots.

    Args:
        ready: what they are measured on.
        methods: the methods; all of them see the same draws.
        draws: by number of shots, positions of the labelled objects.
        say: is told method, shots and record as soon as they are there.

    Returns:
        One record a method and number of shots; ratios are 0 to 1.
    """
    engine = Engine()
    records: list[dict[str, Any]] = []
    first: dict[int, np.ndarray] = {}
    for method in methods:
        for shots, chosen in draws.items():
            ious, choices = measure(ready, method, chosen, engine)
            groups = {
                "novel": np.nanmean(ious[:, 1:][:, ready.novel], axis=1),
                "base": np.nanmean(ious[:, 1:][:, ~ready.novel], axis=1),
                "background": ious[:, 0],
            }
            record: dict[str, Any] = {"method": method.name, "shots": shots, "draws": len(chosen)}
            for name, values in groups.items():
                record[name] = _listed(confidence_interval(values), values)
            if method.name == "zero_shot":
                first[shots] = groups["novel"]
            elif shots in first:
                change = paired_difference(groups["novel"], first[shots])
                record["novel_over_zero_shot"] = _listed(change, groups["novel"] - first[shots])
            record["class_iou"] = [_rounded(value) for value in np.mean(ious, axis=0)]
            record["selection"] = choices
            records.append(record)
            if say is not None:
                say(method.name, shots, record)
    return records


def _listed(interval: Interval, values: np.ndarray) -> dict[str, Any]:
    return {
        "mean": _rounded(interval.mean),
        "ci95": None if interval.ci95 is None else _rounded(interval.ci95),
        "draws": [_rounded(value) for value in values],
    }


def _rounded(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
