"""From the precision of detections to the rows of a report."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fsclip_jax.data.coco_files import Boxes
from fsclip_jax.detection.average_precision import Precision, group_numbers
from fsclip_jax.detection.fitting import ScoredMethod
from fsclip_jax.fitting.fitted import fit_costs
from fsclip_jax.report.measured import Measured, Place, rows_of, saw_of
from fsclip_jax.report.rows import Row

OVERLAPS: Mapping[str, float | None] = {"ap": None, "ap50": 0.5, "ap75": 0.75}
"""Least overlap that each metric counts as a hit; None for the mean of ten."""


class JudgedMethod(NamedTuple):
    """A method and the precision of its detections, one for each draw."""

    method: ScoredMethod
    precisions: Sequence[Precision]


def detection_rows(data: Boxes, judged: Sequence[JudgedMethod], shots: int) -> tuple[Row, ...]:
    """Lay the precisions out as rows: of all categories, and of every group that has an object."""
    splits = {"test": [category.id for category in data.categories], **group_numbers(data)}
    measured: dict[Place, Measured] = {}
    for split, numbers in splits.items():
        for method, precisions in judged:
            metrics = fit_costs([method.fitted]) | {
                name: np.array([precision.mean(numbers, overlap) for precision in precisions])
                for name, overlap in OVERLAPS.items()
            }
            saw = saw_of(method.name, method.selection)
            measured[split, method.name, shots] = Measured(metrics, method.selection, saw)
    return rows_of(measured)
