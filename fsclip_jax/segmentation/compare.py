"""Compare methods by mean intersection over union, over several draws of the support."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.fitting.draws import draws_of
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.fitting.fitted import choose_setting, fit, fit_costs, logits_of
from fsclip_jax.fitting.methods import Method
from fsclip_jax.fitting.selection import Val
from fsclip_jax.interim import Interim
from fsclip_jax.report.measured import Measured, Place, saw_of
from fsclip_jax.segmentation.prepare import Parts, Points
from fsclip_jax.segmentation.score import class_ious, confusion

CHUNK = 8192
"""Points that are classified together."""

SELECTION = 2_000
"""Points of val that searched scalars are chosen on."""


@dataclass(frozen=True, eq=False)
class SegmentationSetting:
    """What all methods are compared on; ``support`` and ``val`` are by size of window."""

    text: Float[np.ndarray, "way dim"]
    logit_scale: float
    novel: Bool[np.ndarray, "way"]
    support: tuple[Float[np.ndarray, "objects dim"], ...]
    val: tuple[Points, ...]
    test: tuple[Points, ...]
    parts: Parts
    things: Bool[np.ndarray, "parts"]


def make_task(
    ready: SegmentationSetting, scale: int, draws: Int[np.ndarray, "draw way shot"]
) -> Task:
    """Lay labelled objects out as tasks, one a draw; ``draws`` are positions, -1 for none."""
    mask = draws >= 0
    support = ready.support[scale][np.where(mask, draws, 0)] * mask[..., None]
    count = len(draws)
    return Task(
        jnp.asarray(support, jnp.float32),
        jnp.asarray(mask),
        jnp.broadcast_to(jnp.asarray(ready.text), (count, *ready.text.shape)),
        jnp.full(count, ready.logit_scale, jnp.float32),
    )


def measure(
    ready: SegmentationSetting,
    method: Method,
    draws: Int[np.ndarray, "draw way shot"],
    engine: Engine,
) -> dict[str, Any]:
    """Fit a method for every size of window; measure it on test, for every draw of the support.

    Returns JSON: ``ious`` [draw classes], nan as null; the ``choices`` by size of window; and
    ``costs`` of a fit.
    """
    fitted = []
    for scale, val in enumerate(ready.val):
        task = make_task(ready, scale, draws)
        choice = choose_setting(engine, method, draws_of(task), val=_val(task, val))
        fitted.append(fit(engine, method, choice, task))
    ious = []
    for draw in range(len(draws)):
        logits = [
            logits_of(one.draw(draw), points.features, min(CHUNK, len(points.features)))[0]
            for one, points in zip(fitted, ready.test, strict=True)
        ]
        scores = ready.parts.average(ready.test, logits)
        predicted = np.where(ready.things, scores.argmax(1) + 1, 0)
        ious.append(class_ious(confusion(predicted, ready.parts.counts)))
    return {
        "ious": [[None if np.isnan(x) else float(x) for x in row] for row in ious],
        "choices": [one.choice.record for one in fitted],
        "costs": {name: float(cost) for name, cost in fit_costs(fitted).items()},
    }


def _val(task: Task, val: Points) -> Val:
    """Some points inside the objects of val, to choose searched scalars on."""
    rows = np.flatnonzero(val.labels > 0)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, SELECTION).astype(int))]
    query = Query(
        jnp.asarray(val.features[rows]),
        jnp.asarray(val.labels[rows] - 1, jnp.int32),
        jnp.ones(len(rows), bool),
    )
    return Val(task, query, "points inside the objects of the val scenes (base classes)")


def compare_segmentations(
    ready: SegmentationSetting,
    methods: Sequence[Method],
    draws: Mapping[int, Int[np.ndarray, "draw way shot"]],
    interim: Interim,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[dict[Place, Measured], dict[tuple[str, int], Float[np.ndarray, "classes"]]]:
    """Measure methods over numbers of shots; all of them see the same draws.

    Returns the mean intersection over union of novel and base classes and of the background; and,
    by method and shots, that of background and every class, mean over the draws. In percent.
    """
    engine = Engine()
    measured: dict[Place, Measured] = {}
    of_classes = {}
    for method in methods:
        for shots, chosen in draws.items():
            found = interim.value(
                f"{method.name} of {shots} shots",
                partial(measure, ready, method, chosen, engine),
            )
            ious, choices = np.array(found["ious"], np.float64), found["choices"]
            costs = {name: np.asarray(cost) for name, cost in found["costs"].items()}
            things, novel = 100 * ious[:, 1:], ready.novel
            groups = {
                "novel": np.nanmean(things[:, novel], axis=1),
                "base": np.nanmean(things[:, ~novel], axis=1),
                "background": 100 * ious[:, 0],
            }
            sizes = {f"window {i}": choice for i, choice in enumerate(choices, 1)}
            selection = choices[0] if len(choices) == 1 else sizes
            saw = saw_of(method.name, selection)
            for split, values in groups.items():
                metrics = {"miou": values, **costs}
                measured[split, method.name, shots] = Measured(metrics, selection, saw)
            of_classes[method.name, shots] = 100 * np.mean(ious, axis=0)
            say(f"{method.name}, {shots} shots")
    return measured, of_classes
