"""The result of a comparison of detections: ``detection.json``, and the table on the terminal."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from fsclip_jax.data.coco_files import Boxes
from fsclip_jax.detection.average_precision import Precision, group_numbers
from fsclip_jax.durable import write_file
from fsclip_jax.report.intervals import confidence_interval, paired_difference

REFERENCE = "zero_shot"
"""The method that others are compared with, draw by draw."""


@dataclass(frozen=True)
class Measured:
    """What was measured of a method.

    Attributes:
        name: of the method.
        precisions: one for each draw.
        selection: how its settings were chosen.
    """

    name: str
    precisions: Sequence[Precision]
    selection: Mapping[str, Any]


def metrics_of(
    data: Boxes, precision: Precision, groups: Mapping[str, Sequence[int]]
) -> dict[str, float]:
    """Return the numbers of one draw, in percent.

    Args:
        data: the annotations.
        precision: of one draw.
        groups: numbers of categories that are told of apart, by the name of the group.

    Returns:
        ``AP``, ``AP50``, ``AP75``, and ``AP_GROUP`` of every group that has an object; all over
        the categories that have one.
    """
    ids = [category.id for category in data.categories]
    found = {
        "AP": precision.mean(ids),
        "AP50": precision.mean(ids, 0.5),
        "AP75": precision.mean(ids, 0.75),
        **{f"AP_{name}": precision.mean(numbers) for name, numbers in groups.items()},
    }
    return {name: value for name, value in found.items() if not math.isnan(value)}


def make_rows(data: Boxes, measured: Sequence[Measured], shots: int) -> list[dict[str, Any]]:
    """Lay the measurements out as rows of the report.

    Args:
        data: the annotations.
        measured: the methods.
        shots: annotated boxes of a class.

    Returns:
        One row a method: every metric with its mean, its 95 % interval over the draws and the
        draws themselves; and, against zero-shot, the interval of the difference draw by draw.
    """
    groups = group_numbers(data)
    per_draw = {
        one.name: [metrics_of(data, precision, groups) for precision in one.precisions]
        for one in measured
    }
    rows = []
    for one in measured:
        draws = per_draw[one.name]
        metrics: dict[str, Any] = {}
        for name in draws[0]:
            values = [draw[name] for draw in draws]
            mean, half = confidence_interval(values)
            metrics[name] = {"mean": mean, "ci95": half, "per_seed": values}
            if one.name != REFERENCE and REFERENCE in per_draw:
                other = [draw[name] for draw in per_draw[REFERENCE]]
                gain, within = paired_difference(values, other)
                metrics[name]["over_zero_shot"] = {"mean": gain, "ci95": within}
        rows.append(
            {
                "method": one.name,
                "shots": shots,
                "metrics": metrics,
                "selection": dict(one.selection),
            }
        )
    return rows


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write ``detection.json``.

    Args:
        path: the file.
        report: JSON values.
    """
    write_file(path, (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())


def print_table(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the metrics, methods by metrics, with the intervals over the draws.

    Args:
        rows: of ``make_rows``.
        console: where to.
    """
    names = list(rows[0]["metrics"])
    cells = [["method", *names]]
    for row in rows:
        values = (row["metrics"][name] for name in names)
        cells.append([row["method"], *(number(v["mean"], v["ci95"]) for v in values)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        first, *rest = (f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True))
        text = "  ".join([first.strip().ljust(widths[0]), *rest])
        console.print(text, soft_wrap=True, style="dim" if line is cells[0] else None)
    for row in rows:
        told = [
            f"{name} {cell['over_zero_shot']['mean']:+.2f}"
            + (f" ± {half:.2f}" if (half := cell["over_zero_shot"]["ci95"]) is not None else "")
            for name, cell in row["metrics"].items()
            if name in ("AP", "AP_novel", "AP_rare") and "over_zero_shot" in cell
        ]
        if told:
            console.print(f"{row['method']} over zero_shot: {', '.join(told)}", soft_wrap=True)


def number(mean: float, half: float | None) -> str:
    """Write a percentage with its interval.

    Example:
        >>> number(12.345, 0.5), number(3.0, None)
        ('12.35 ± 0.50', '3.00')
    """
    return f"{mean:.2f}" if half is None else f"{mean:.2f} ± {half:.2f}"
