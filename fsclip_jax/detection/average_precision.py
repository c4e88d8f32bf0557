"""Average precision by pycocotools, with the rules of LVIS where a data set has them."""

import contextlib
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fsclip_jax.data.coco_files import Boxes
from fsclip_jax.typing import Float

IOUS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""Overlaps that AP is the mean over."""
MOST_COCO, MOST_LVIS = 100, 300
"""Detections of an image that count."""


class Detections(NamedTuple):
    """Detections over many images, in any order."""

    image: np.ndarray
    """Number of the image."""
    category: np.ndarray
    """Number of the category."""
    bbox: Float[np.ndarray, "n 4"]
    """Left, top, width, height, in pixels."""
    score: Float[np.ndarray, " n"]

    def rounded(self) -> "Detections":
        """Round as a file has them, ties included: boxes to 0.01 pixels, scores to 8 digits."""
        score = [float(f"{value:.8g}") for value in self.score.tolist()]
        return self._replace(bbox=np.round(self.bbox, 2), score=np.array(score, np.float64))

    def results(self) -> list[dict[str, Any]]:
        """Return them in the layout of COCO's results."""
        columns = (part.tolist() for part in self)
        names = ("image_id", "category_id", "bbox", "score")
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Precision:
    """Average precision, in percent."""

    per_category: Mapping[int, float]
    """Mean over the overlaps, by the number of the category; NaN where there is no object of it."""
    at: Mapping[float, Mapping[int, float]]
    """The same at single overlaps, by the overlap."""

    def mean(self, categories: Sequence[int] | None = None, overlap: float | None = None) -> float:
        """Return the mean over categories that have objects; NaN if none has.

        It is of all categories and over all overlaps, unless some are given.
        """
        values = self.per_category if overlap is None else self.at[overlap]
        chosen = [values[number] for number in (values if categories is None else categories)]
        known = [value for value in chosen if not np.isnan(value)]
        return float(np.mean(known)) if known else float("nan")


def most_detections(data: Boxes) -> int:
    """Return how many detections of an image count: 100 of COCO's, 300 of LVIS's."""
    return MOST_LVIS if data.federated else MOST_COCO


def average_precision(
    data: Boxes, found: Detections, overlaps: Sequence[float] = IOUS
) -> Precision:
    """Average precision of detections.

    Of each image the best 100 detections count, over all categories together (300 for LVIS).
    LVIS is federated: an image says nothing of a category that was not looked for in it, so
    detections of such are left out; and where the objects of a category are not all annotated,
    a detection that meets none of them is no mistake.

    A detection is right from some intersection over union on, of which several are tried.

    Source: Lin et al., Microsoft COCO, ECCV 2014, and its evaluation code; Gupta et al., LVIS: A
    Dataset for Large Vocabulary Instance Segmentation, CVPR 2019, section 2.
    """
    from pycocotools.cocoeval import COCOeval

    kept = _judged(data, _best_of_image(found, most_detections(data)))
    with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress
        judge = COCOeval(_index(data, _truth(data)), _index(data, _found(kept)), "bbox")
        judge.params.iouThrs = np.asarray(overlaps)
        judge.params.maxDets = [most_detections(data)]
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.evaluate()
        if data.federated:
            _forgive(data, judge.evalImgs)
        judge.accumulate()
    precision = judge.eval["precision"][:, :, :, 0, 0]  # overlap, recall, category
    numbers = [int(number) for number in judge.params.catIds]
    # The precision of a category without objects is -1 throughout.
    percent = np.where((precision >= 0).all(1), 100 * precision.mean(1), np.nan)
    return Precision(
        dict(zip(numbers, percent.mean(0).tolist(), strict=True)),
        {
            overlap: dict(zip(numbers, row.tolist(), strict=True))
            for overlap, row in zip(overlaps, percent, strict=True)
        },
    )


def _best_of_image(found: Detections, most: int) -> Detections:
    order = np.lexsort((-found.score, found.image))
    image = found.image[order]
    first = np.searchsorted(image, image)  # where the detections of its image begin
    return Detections(*(part[order[np.arange(len(order)) - first < most]] for part in found))


def _judged(data: Boxes, found: Detections) -> Detections:
    """Leave out detections of categories that an image of LVIS says nothing of."""
    if not data.federated:
        return found
    known: dict[int, set[int]] = {p.id: set(p.absent or ()) for p in data.pictures}
    for box in data.boxes:
        known[box.image].add(box.category)
    pairs = zip(found.image.tolist(), found.category.tolist(), strict=True)
    rows = np.array([category in known[image] for image, category in pairs], bool)
    return Detections(*(part[rows] for part in found))


def _forgive(data: Boxes, judged: Sequence[dict[str, Any] | None]) -> None:
    """Ignore unmatched detections where the objects of the category are not all annotated."""
    partly = {picture.id: picture.partly or () for picture in data.pictures}
    for each in judged:
        if each is not None and each["category_id"] in partly[each["image_id"]]:
            each["dtIgnore"] = np.logical_or(each["dtIgnore"], each["dtMatches"] == 0)


def _truth(data: Boxes) -> list[dict[str, Any]]:
    # Numbered from 1: pycocotools takes a match with number 0 for none.
    return [
        {
            "id": i,
            "image_id": box.image,
            "category_id": box.category,
            "bbox": list(box.bbox),
            "area": box.area,
            "iscrowd": int(box.crowd),
        }
        for i, box in enumerate(data.boxes, 1)
    ]


def _found(found: Detections) -> list[dict[str, Any]]:
    return [
        {"id": i, "area": one["bbox"][2] * one["bbox"][3], "iscrowd": 0, **one}
        for i, one in enumerate(found.results(), 1)
    ]


def _index(data: Boxes, annotations: list[dict[str, Any]]) -> Any:
    """What pycocotools looks annotations up in, without a file."""
    from pycocotools.coco import COCO

    index = COCO()
    index.dataset = {
        "images": [{"id": picture.id} for picture in data.pictures],
        "categories": [{"id": category.id} for category in data.categories],
        "annotations": annotations,
    }
    index.createIndex()
    return index


def empty_detections() -> Detections:
    """Return no detections at all."""
    return Detections(
        np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.float64)
    )


def group_numbers(data: Boxes) -> dict[str, list[int]]:
    """Number the categories reported apart: novel and base, or rare, common and frequent."""
    groups: dict[str, list[int]] = defaultdict(list)
    names = {"r": "rare", "c": "common", "f": "frequent"}
    for category in data.categories:
        if category.novel is not None:
            groups["novel" if category.novel else "base"].append(category.id)
        if category.frequency is not None:
            groups[names[category.frequency]].append(category.id)
    return dict(groups)
