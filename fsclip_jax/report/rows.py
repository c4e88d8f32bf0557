"""A comparison of methods as rows of numbers: what ``report.json`` holds, and nothing else."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta

from fsclip_jax.errors import UserError
from fsclip_jax.printable import printable
from fsclip_jax.report.details import Details
from fsclip_jax.report.metrics import check_counts, check_number, main_metric
from fsclip_jax.report.schema1 import lift_report
from fsclip_jax.report.shots import FORM
from fsclip_jax.report.stored import as_json, from_json, read_text
from fsclip_jax.report.training import TrainingCurve

Kind: TypeAlias = Literal["eval", "detect", "segment"]
"""The command that compared; a cell of a suite is an ``eval``."""

MOST_CURVES = 16
"""Adapters whose training a report shows."""

Shots: TypeAlias = Annotated[int, Meta(ge=1, lt=2**31)] | Annotated[str, Meta(pattern=FORM)]


@dataclass(frozen=True)
class Metric:
    """A number over repeated draws, in the unit of ``metrics.METRICS`` before its ``scale``.

    Attributes:
        ci95: half-width of the 95 % confidence interval; ``None`` without several draws.
        per_seed: one number a support draw (or an episode); empty for what draws do not change.
    """

    mean: float
    ci95: float | None = None
    per_seed: tuple[float, ...] = ()


@dataclass(frozen=True)
class Difference:
    """Mean and 95 % interval of the difference to another method, paired draw by draw."""

    mean: float
    ci95: float | None


@dataclass(frozen=True)
class Row:
    """One method at one number of shots on one group of classes.

    Attributes:
        split: ``test`` (all classes), ``base``, ``novel``, ``harmonic`` or another group.
        metrics: numbers by name; a derived row (``harmonic``, ``average``) has fewer.
        saw: of what is evaluated, what the method saw beyond names of classes: ``shots``, ``val``
            (settings were chosen on it), ``queries`` (the images that are judged on).
        versus: differences to reference methods: by their name, then by metric.
    """

    method: str
    shots: Shots
    split: str
    metrics: Mapping[str, Metric]
    selection: Mapping[str, Any] = field(default_factory=dict)
    saw: tuple[str, ...] = ()
    versus: Mapping[str, Mapping[str, Difference]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, metric in self.metrics.items():
            check_number(name, metric.mean, metric.ci95, metric.per_seed)
        check_counts("selection", self.selection)
        for differences in self.versus.values():
            for name, each in differences.items():
                check_number(name, each.mean, each.ci95, sign=True)


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole comparison.

    Attributes:
        protocol: of ``fsclip eval``; ``detect`` or ``segment``.
    """

    kind: Kind = "eval"
    fsclip_version: str
    command: str
    device: str
    protocol: str
    label_space: str
    backbone: Mapping[str, Any]
    data: Mapping[str, Any]
    rows: tuple[Row, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: tuple[Mapping[str, Any], ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    warning: tuple[str, ...] = ()
    created: str = ""
    details: Details | None = None
    training: tuple[TrainingCurve, ...] = ()

    def __post_init__(self) -> None:
        if len(self.training) > MOST_CURVES:
            raise ValueError(
                f"there are {len(self.training)} training curves; {MOST_CURVES} at most"
            )
        if main_metric(name for row in self.rows for name in row.metrics) is None:
            raise ValueError("no row has a number")
        for name in ("n_classes", "n_query"):
            if self.data.get(name) is None:
                raise ValueError(f"data.{name} is missing")
        check_counts("data", self.data)
        check_counts("settings", self.settings)


def report_to_json(report: Report) -> str:
    """Return the text of ``report.json``: numbers rounded to 6 digits after the point."""
    optional = ("details", "training")
    return as_json(report, leave_out=[name for name in optional if not getattr(report, name)])


def report_from_json(text: str, where: str = "report.json") -> Report:
    """Read a report of schema 1 or 2; keys that this version does not know are left out.

    Raises:
        UserError: the text is no report; the line says what is wrong and where.
    """
    return from_json(text, where, Report, ("rows",), lift_report)


def read_report(path: Path) -> Report:
    """Read ``report.json``, given the file or the folder that holds it.

    Raises:
        UserError: there is no such file, or it is no report.
    """
    file, text = read_text(path, "report.json", "`fsclip eval`, `detect` or `segment`")
    return report_from_json(text, str(file))


def refuse_other_data(folder: Path, spec: str) -> None:
    """Refuse to write a report where one of other data is; what is no report is none.

    Args:
        spec: the data of the report to come.

    Raises:
        UserError: the folder holds a report of other data.
    """
    try:
        there = read_report(folder).data.get("spec")
    except UserError:
        return
    if there is not None and _placed(str(there)) != _placed(printable(spec)):
        raise UserError(
            f"{folder} holds a report on {there}, which one on {spec} would replace: give another "
            "--out, or move it away"
        )


def _placed(spec: str) -> str:
    """Data in a folder by where that is, other data by its name."""
    kind, colon, rest = spec.partition(":")
    if kind in ("folder", "bank"):
        return f"{kind}:{os.path.abspath(rest)}"
    return spec if colon or not os.path.exists(spec) else os.path.abspath(spec)


def ordered(values: Sequence[Any]) -> list[Any]:
    """Return the distinct values in the order of their first appearance."""
    return list(dict.fromkeys(values))
