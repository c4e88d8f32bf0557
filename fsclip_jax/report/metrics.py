"""Every number that a report can hold, in one table that all tables and plots are drawn from.

A new metric is a line here and the function that computes it (of predictions, one in
``evaluation/metrics.py``): it is then on the terminal, in Markdown, HTML and, where it is a cost,
in a plot, of every kind of comparison that measures it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MetricInfo:
    """What a reader must know of a metric.

    Attributes:
        unit: of what is shown; ``scale`` turns what is stored into it. Percent are 0 to 100.
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
    MetricInfo("nll", "negative log-likelihood", "nats", 3, "lower"),
    MetricInfo(
        "fit_seconds", "fit one task", "ms", 2, "lower", scale=1e3, cost=True,
        about="Times are on the device named below, without compiling.",
    ),
    MetricInfo(
        "predict_us_per_query", "classify one image", "µs", 1, "lower", cost=True,
    ),
    MetricInfo(
        "state_bytes", "state", "KiB", 1, "lower", scale=1 / 1024, cost=True,
        about="The state is what one fit leaves for classifying.",
    ),
)  # fmt: skip
"""The first of them that a comparison measures is the one that its tables and plots show."""


def main_metric(names: Iterable[str]) -> MetricInfo | None:
    """Return the metric that a comparison is about, among those that it measured.

    Example:
        >>> main_metric(["nll", "accuracy", "mine"]).title
        'accuracy'
    """
    measured = set(names)
    return next((info for info in METRICS if info.name in measured), None)


def with_interval(mean: float, ci95: float | None, digits: int = 2, sign: bool = False) -> str:
    """Write a number with its interval.

    Example:
        >>> with_interval(61.234, 0.5)
        '61.23 ±0.50'
        >>> with_interval(3.0, None, digits=1, sign=True)
        '+3.0'
    """
    text = f"{mean:{'+,' if sign else ','}.{digits}f}"
    return text if ci95 is None else f"{text} ±{ci95:,.{digits}f}"
