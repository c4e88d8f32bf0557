"""The curves of adapters that were trained here, for the report that compares them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fsclip_jax.errors import UserError
from fsclip_jax.report.rows import Report
from fsclip_jax.report.training import MOST_POINTS, TrainingCurve
from fsclip_jax.training.metrics_log import METRICS_FILE, LogRow, read_metrics


def with_curves(report: Report) -> Report:
    """Add the logs of the trainings that lie beside the checkpoints of a report."""
    places = ((str(one.get("method")), Path(str(one.get("path")))) for one in report.checkpoints)
    found = (curve_of(method, place) for method, place in places)
    return replace(report, training=tuple(curve for curve in found if curve is not None))


def curve_of(method: str, checkpoint: Path) -> TrainingCurve | None:
    """Read what moved in a training; None where no log of it is beside the checkpoint."""
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    try:
        rows = read_metrics(folder / METRICS_FILE)
        trained, judged = _held(rows, "loss", "accuracy"), _held(rows, "val_accuracy")
        if not trained and not judged:
            return None
        return TrainingCurve(
            method,
            step=tuple(int(row["step"] or 0) for row in trained),
            loss=tuple(float(row["loss"] or 0) for row in trained),
            accuracy=tuple(float(row["accuracy"] or 0) for row in trained),
            val_step=tuple(int(row["step"] or 0) for row in judged),
            val_accuracy=tuple(float(row["val_accuracy"] or 0) for row in judged),
        )
    except (OSError, UserError, ValueError):  # a log that is spoilt costs the curve alone
        return None


def _held(rows: Sequence[LogRow], *names: str) -> list[LogRow]:
    """The rows with these numbers, evenly thinned to what a curve takes; the last one stays."""
    whole = [row for row in rows if all(row.get(name) is not None for name in names)]
    every = -(-len(whole) // MOST_POINTS)
    return whole[::-1][:: every or 1][::-1]
