"""From the numbers of the draws to the rows of a report, and when and by what they were made."""

import datetime
import importlib.metadata
import platform
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fsclip_jax import __version__
from fsclip_jax.report.intervals import confidence_interval, paired_difference
from fsclip_jax.report.names import REFINED
from fsclip_jax.report.rows import Difference, Metric, Row, ordered
from fsclip_jax.report.shots import Shots

Place: TypeAlias = tuple[str, str, Shots]
"""Split, method and number of shots."""

LIBRARIES = ("jax", "flax", "numpy")
"""Libraries whose version a report states."""

AVERAGE = "average"
"""Name of a mean over data sets."""

REFERENCE = "zero_shot"
"""The method that others are compared with, besides their own untrained form."""


class Measured(NamedTuple):
    """What was measured of one method at one number of shots on one split.

    ``metrics`` are by the names of ``metrics.METRICS``: one number a draw, or an array without an
    axis for what is one number over all draws.
    """

    metrics: Mapping[str, np.ndarray]
    selection: Mapping[str, Any]
    saw: tuple[str, ...]


def rows_of(measured: Mapping[Place, Measured]) -> tuple[Row, ...]:
    """Turn numbers into rows, with intervals and paired differences.

    A metric that is not a number for every draw, as there was nothing to judge, is left out. Rows
    go split by split, in the order of the methods, then of the shots.
    """
    splits = ordered([split for split, _, _ in measured])
    known = {
        place: {n: values for n, values in each.metrics.items() if np.isfinite(values).all()}
        for place, each in measured.items()
    }
    rows = []
    for split, method, shots in sorted(measured, key=lambda place: splits.index(place[0])):
        mine, numbers = measured[split, method, shots], known[split, method, shots]
        versus = {
            other: _differences(numbers, reference)
            for other in _references(method)
            if other != method and (reference := known.get((split, other, shots)))
        }
        metrics = {name: _metric(values) for name, values in numbers.items()}
        if metrics:
            rows.append(Row(method, shots, split, metrics, mine.selection, mine.saw, versus))
    return tuple(rows)


def _references(method: str) -> tuple[str, ...]:
    """What a method is compared with: what it refines, if it refines something."""
    alone, refined, _ = method.partition(REFINED)
    return tuple(dict.fromkeys((REFERENCE, alone if refined else f"{method}_untrained")))


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
        if np.ndim(values) and name in reference
    }


def saw_of(method: str, selection: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what a method saw of what it is evaluated on, beyond the names of the classes.

    Example:
        >>> saw_of("tip_adapter", {"split": "val"}), saw_of("zero_shot", {})
        (('shots', 'val'), ())
    """
    chosen_on = set(_splits(selection))
    shots = () if method == REFERENCE else ("shots",)
    val = ("val",) if "val" in chosen_on else ()
    return (*shots, *val, *(("queries",) if "test" in chosen_on else ()))


def _splits(selection: Mapping[str, Any]) -> Iterator[str]:
    """The splits that a selection names, of several choices too."""
    for name, value in selection.items():
        if isinstance(value, Mapping):
            yield from _splits(value)
        elif name == "split":
            yield str(value)


def circumstances() -> dict[str, Any]:
    """Return what a report says of the program that makes it, and of the time."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {
        "fsclip_version": __version__,
        "versions": {"python": platform.python_version(), **versions},
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
