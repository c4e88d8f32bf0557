"""From the numbers of the draws to the rows of a report."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fsclip_jax.report.intervals import confidence_interval, paired_difference
from fsclip_jax.report.rows import Difference, Metric, Row, ordered

Place: TypeAlias = tuple[str, str, int]
"""Split, method and number of shots."""

REFERENCE = "zero_shot"
"""The method that others are compared with, besides their own untrained form."""


class Measured(NamedTuple):
    """What was measured of one method at one number of shots on one split.

    Attributes:
        metrics: by the names of ``metrics.METRICS``: one number a draw, or an array without an
            axis for what is one number over all draws.
        selection: what was chosen, and on which images.
        saw: see ``Row``.
    """

    metrics: Mapping[str, np.ndarray]
    selection: Mapping[str, Any]
    saw: tuple[str, ...]


def rows_of(measured: Mapping[Place, Measured]) -> tuple[Row, ...]:
    """Turn numbers into rows, with intervals and paired differences.

    Returns:
        The rows: split by split, in the order of the methods, then of the shots.
    """
    splits = ordered([split for split, _, _ in measured])
    rows = []
    for split, method, shots in sorted(measured, key=lambda place: splits.index(place[0])):
        mine = measured[split, method, shots]
        versus = {
            other: _differences(mine.metrics, reference.metrics)
            for other in (REFERENCE, f"{method}_untrained")
            if other != method and (reference := measured.get((split, other, shots)))
        }
        metrics = {name: _metric(values) for name, values in mine.metrics.items()}
        rows.append(Row(method, shots, split, metrics, mine.selection, mine.saw, versus))
    return tuple(rows)


def _metric(values: np.ndarray) -> Metric:
    if np.ndim(values) == 0:
        return Metric(float(values))
    return Metric(*confidence_interval(values), tuple(map(float, values)))


def _differences(
    mine: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
) -> dict[str, Difference]:
    return {
        name: Difference(*paired_difference(values, reference[name]))
        for name, values in mine.items()
        if np.ndim(values) and np.ndim(reference.get(name, 0.0))
    }


def saw_of(method: str, selection: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what a method saw of what it is evaluated on, beyond the names of the classes.

    Example:
        >>> saw_of("tip_adapter", {"split": "val"}), saw_of("zero_shot", {})
        (('shots', 'val'), ())
    """
    chosen_on = {"val": ("val",), "test": ("queries",)}.get(str(selection.get("split")), ())
    return (() if method == REFERENCE else ("shots",)) + chosen_on
