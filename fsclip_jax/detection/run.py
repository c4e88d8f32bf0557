"""Detect by fitted methods, with the scoring chosen on val."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from fsclip_jax.data.boxes import overlaps
from fsclip_jax.data.coco_files import Boxes, Category, Picture
from fsclip_jax.detection.average_precision import (
    Detections,
    average_precision,
    most_detections,
)
from fsclip_jax.detection.boxes import keep_best
from fsclip_jax.detection.fitting import (
    ScoredMethod,
    Split,
    Supported,
    in_runs,
    region_logits,
)
from fsclip_jax.detection.models import Model
from fsclip_jax.detection.scoring import (
    SCORINGS,
    Found,
    Scoring,
    score_owlvit,
    score_proposals,
)
from fsclip_jax.interim import Interim
from fsclip_jax.typing import Float

NMS = 0.5
"""Overlap above which the worse of two boxes of a class is dropped."""
_SCORING_DRAWS = 2
"""Draws that the scoring is chosen on: every setting costs an evaluation."""
_OWL_REGIONS = 576
"""Regions that an OWL-ViT finds in a picture, about."""


_Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _scores(
    model: Model, logits: np.ndarray, found: Found, background: np.ndarray, scoring: Scoring
) -> Float[np.ndarray, "region way"]:
    if model.proposes:
        return score_owlvit(logits, found, model.logit_scale)
    return score_proposals(logits, found, background, model.logit_scale, scoring)


def _rows(found: Found, over: np.ndarray, scores: np.ndarray, ids: np.ndarray, most: int) -> _Rows:
    kept = keep_best(scores, over, most)
    image = np.full(len(kept.score), found.image, np.int64)
    return image, ids[kept.label], found.boxes[kept.region].astype(np.float64), kept.score


def _join(rows: Sequence[_Rows]) -> Detections:
    return Detections(*(np.concatenate(part) for part in zip(*rows, strict=True)))


def choose_scoring(
    model: Model,
    scored: Sequence[ScoredMethod],
    supported: Supported,
    split: Split,
    categories: Sequence[Category],
    interim: Interim,
    say: Callable[[str], None],
) -> list[ScoredMethod]:
    """Choose for every method how its logits become scores: the best AP50 on val.

    The same settings are open to every method. An OWL-ViT has nothing to choose.
    """
    if model.proposes:
        return list(scored)
    images = list(_regions(model, split, interim))
    overs = [overlaps(found.boxes, found.boxes) > NMS for found in images]
    ids, most = _ids(split.data, categories), most_detections(split.data)

    def ap50(one: ScoredMethod) -> list[float]:
        logits = [region_logits(one.fitted, found)[:_SCORING_DRAWS] for found in images]
        points = []
        for scoring in SCORINGS:
            each = []
            for draw in range(len(logits[0])):
                background = supported.background[draw]
                rows = [
                    _rows(
                        found, over, _scores(model, z[draw], found, background, scoring), ids, most
                    )
                    for found, over, z in zip(images, overs, logits, strict=True)
                ]
                each.append(average_precision(split.data, _known(_join(rows)), (0.5,)).mean())
            points.append(float(np.mean(each)))
        return points

    chosen = []
    for one in scored:
        points = interim.value(f"scoring of {one.name}", partial(ap50, one))
        best = int(np.argmax(points))
        with_ = f"background {SCORINGS[best].background}, objectness {SCORINGS[best].objectness}"
        say(f"{one.name}: AP50 {points[best]:.1f} on val with {with_}")
        how = {"split": "val", "ap50": round(points[best], 3), **asdict(SCORINGS[best])}
        chosen.append(ScoredMethod(one.fitted, SCORINGS[best], {**one.selection, "scoring": how}))
    return chosen


def _regions(model: Model, split: Split, interim: Interim) -> Iterator[Found]:
    """The regions of a split, run by run of pictures that are kept as parts."""
    for some in _runs(model, split):

        def make(some: Sequence[Picture] = some) -> dict[str, np.ndarray]:
            found = model.regions(split.folder, some, split.proposals)
            return {
                f"{place} {name}": value
                for place, one in enumerate(found)
                for name, value in one._asdict().items()
                if isinstance(value, np.ndarray)
            }

        kept = interim.arrays(f"regions from {some[0].id}", make)
        for place, picture in enumerate(some):
            fields: list[Any] = [kept.get(f"{place} {name}") for name in Found._fields[1:]]
            yield Found(picture.id, *fields)


def _runs(model: Model, split: Split) -> Iterator[Sequence[Picture]]:
    pictures = split.data.pictures
    if model.proposes:
        return in_runs(pictures, [_OWL_REGIONS] * len(pictures))
    return in_runs(pictures, [len(split.proposals[one.id].boxes) for one in pictures])


def _known(found: Detections) -> Detections:
    rows = found.category >= 0
    return Detections(*(part[rows] for part in found))


def _ids(data: Boxes, categories: Sequence[Category]) -> np.ndarray:
    """Numbers that a file gives to the classes; -1 where it has no class of the name."""
    number = {category.name: category.id for category in data.categories}
    return np.array([number.get(category.name, -1) for category in categories])


def detect(
    model: Model,
    scored: Sequence[ScoredMethod],
    supported: Supported,
    split: Split,
    categories: Sequence[Category],
    interim: Interim,
) -> dict[str, list[Detections]]:
    """Detect by every method and draw, in one pass over the pictures, rounded as a file has it.

    What was detected in a run of pictures is kept as a part.
    """
    ids, most = _ids(split.data, categories), most_detections(split.data)

    def make(some: Sequence[Picture]) -> dict[str, np.ndarray]:
        rows = defaultdict[str, list[_Rows]](list)
        for found in model.regions(split.folder, some, split.proposals):
            over = overlaps(found.boxes, found.boxes) > NMS
            for one in scored:
                for draw, z in enumerate(region_logits(one.fitted, found)):
                    scores = _scores(model, z, found, supported.background[draw], one.scoring)
                    rows[f"{one.name} {draw}"].append(_rows(found, over, scores, ids, most))
        return {
            f"{name} {column}": part
            for name, some_rows in rows.items()
            for column, part in enumerate(_join(some_rows))
        }

    kept = [
        interim.arrays(f"detections from {some[0].id}", partial(make, some))
        for some in _runs(model, split)
    ]

    def whole(name: str) -> Detections:
        columns = range(len(Detections._fields))
        return Detections(*(np.concatenate([p[f"{name} {i}"] for p in kept]) for i in columns))

    draws = range(len(supported.background))
    return {one.name: [whole(f"{one.name} {draw}").rounded() for draw in draws] for one in scored}
