"""Every number that a report can hold, in one table that all tables and plots are drawn from.

A new metric is a line here and the function that computes it (of predictions, one in
``evaluation/metrics.py``): it is then on the terminal, in Markdown, HTML and, where it is a cost,
in a plot, of every kind of comparison that measures it.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fsclip_jax.report.shots import FORM


@dataclass(frozen=True)
class MetricInfo:
    """What a reader must know of a metric.

    Attributes:
        unit: of what is shown; ``scale`` turns what is stored into it. Percent are 0 to 100.
        most: what is stored is at least 0 and at most this.
        about: how it is computed, as a whole sentence; empty where the title says it all.
        cost: whether there is a plot of accuracy against it.
    """

    name: str
    title: str
    unit: str
    digits: int
    better: Literal["higher", "lower"] = "higher"
    about: str = ""
    scale: float = 1.0
    cost: bool = False
    most: float = 100.0

    @property
    def label(self) -> str:
        """Title and unit, for the head of a column and beside an axis."""
        return f"{self.title}, {self.unit}"


METRICS = (
    MetricInfo("accuracy", "accuracy", "%", 2),
    MetricInfo("ap", "average precision", "%", 2),
    MetricInfo("miou", "mean intersection over union", "%", 2),
    MetricInfo(
        "class_mean_accuracy", "class-mean accuracy", "%", 2,
        about="The class-mean accuracy counts every class once, however many images it has.",
    ),
    MetricInfo("ap50", "AP50", "%", 2, about="AP50 takes an overlap of 0.5 for a hit."),
    MetricInfo("ap75", "AP75", "%", 2, about="AP75 takes an overlap of 0.75 for a hit."),
    MetricInfo(
        "calibration_error", "calibration error", "points", 1, "lower",
        about="The calibration error compares confidence and accuracy in 15 bins.",
    ),
    MetricInfo("nll", "negative log-likelihood", "nats", 3, "lower", most=1e39),
    MetricInfo(
        "fit_seconds", "fit one task", "ms", 2, "lower", scale=1e3, cost=True, most=1e9,
        about="Times are on the device named below, without compiling.",
    ),
    MetricInfo(
        "predict_us_per_query", "classify one image", "µs", 1, "lower", cost=True, most=1e15,
    ),
    MetricInfo(
        "state_bytes", "state", "KiB", 1, "lower", scale=1 / 1024, cost=True, most=1e15,
        about="The state is what one fit leaves for classifying.",
    ),
)  # fmt: skip
"""The first of them that a comparison measures is the one that its tables and plots show."""

COUNTS = (
    *("n_classes", "n_query", "n_objects", "seeds", "episodes", "way", "query", "shots", "views"),
    "settings_tried",
)
"""What a report says of data and settings in whole numbers from 0 to ``MOST_COUNTED``."""
MOST_COUNTED = 2**53
_ROUNDED = 1e-3
_WIDEST = 13.0
"""Half of a 95 % interval of two draws, in parts of their distance, is 6.4."""


def check_number(
    name: str,
    mean: float,
    ci95: float | None,
    per_seed: Iterable[float] = (),
    *,
    sign: bool = False,
) -> None:
    """Check that a number of a metric, or with ``sign`` a difference of two, is within its bounds.

    Raises:
        ValueError: naming the number and what is accepted.
    """
    most = next((info.most for info in METRICS if info.name == name), 1e39)
    known = any(info.name == name for info in METRICS)
    low = -most if sign or not known else 0.0
    _check(name, mean, low, most)
    for each in per_seed:
        _check(f"a draw's {name}", each, low, most)
    if ci95 is not None and ci95 == ci95:  # what is not a number is written as none
        _check(f"ci95 of {name}", ci95, 0.0, _WIDEST * most)


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low - _ROUNDED <= value <= high + _ROUNDED:
        raise ValueError(f"{name} is {value:.6g}; accepted are {low:g} to {high:g}")


def check_counts(where: str, facts: Mapping[str, Any]) -> None:
    """Check the counts among what a report says, also within what it says.

    Raises:
        ValueError: one is no whole number from 0 to ``MOST_COUNTED``.
    """
    for name, value in facts.items():
        if name in COUNTS and value is not None:
            several = name == "shots" and isinstance(value, (list, tuple))
            for each in value if several else (value,):
                uneven = several and isinstance(each, str) and re.fullmatch(FORM, each)
                if not uneven and (type(each) is not int or not 0 <= each <= MOST_COUNTED):
                    raise ValueError(
                        f"{where}.{name} is {each!r:.40}; accepted are whole numbers, "
                        f"0 to {MOST_COUNTED}"
                    )
        elif isinstance(value, Mapping):
            check_counts(f"{where}.{name}", value)


def main_metric(names: Iterable[str]) -> MetricInfo | None:
    """Return the metric that a comparison is about, among those that it measured.

    Example:
        >>> main_metric(["nll", "accuracy", "mine"]).title
        'accuracy'
    """
    measured = set(names)
    return next((info for info in METRICS if info.name in measured), None)


def number_parts(
    mean: float, ci95: float | None, digits: int = 2, sign: bool = False
) -> tuple[str, str]:
    """Write a number and half its 95 % interval: the digits follow the interval.

    The interval has one digit that counts, two where the first is a 1, and the number ends where
    it ends. Without an interval, or where it is 0, the number has ``digits`` after the point.

    Example:
        >>> [number_parts(61.345, half) for half in (0.4, 0.05, 1.17)]
        [('61.3', '0.4'), ('61.34', '0.05'), ('61.3', '1.2')]
    """
    if ci95 is None or not math.isfinite(ci95):
        return f"{mean:{'+z,' if sign else 'z,'}.{digits}f}", ""
    if ci95 < 5e-7:  # what is stored is rounded to six digits
        return f"{mean:{'+z,' if sign else 'z,'}.{digits}f}", "0"
    power = math.floor(math.log10(ci95))
    places = min(max(0, (ci95 < 2 * 10.0**power) - power), 6)
    return f"{mean:{'+z,' if sign else 'z,'}.{places}f}", f"{ci95:,.{places}f}"


def with_interval(mean: float, ci95: float | None, digits: int = 2, sign: bool = False) -> str:
    """Write a number with its interval, which says how many digits there are.

    Example:
        >>> with_interval(61.234, 0.5), with_interval(61.234, 0.0)
        ('61.2 ±0.5', '61.23 ±0')
        >>> with_interval(3.0, None, digits=1, sign=True)
        '+3.0'
    """
    text, half = number_parts(mean, ci95, digits, sign)
    return f"{text} ±{half}" if half else text
