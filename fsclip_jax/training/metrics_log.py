"""What a run reports: ``metrics.jsonl``, and the same as TensorBoard events."""

import json
import math
import os
import shutil
from pathlib import Path
from types import TracebackType

from fsclip_jax.durable import storage_errors, write_file
from fsclip_jax.json_files import parse_json
from fsclip_jax.training.events import new_event_file, scalar_event

METRICS_FILE = "metrics.jsonl"
EVENTS_FOLDER = "tensorboard"

_MOST = 3e38
LogRow = dict[str, float | int | None]
"""One line: ``step`` and named numbers; null stands for a number that is not finite."""


def read_metrics(path: Path, last_step: int | None = None) -> list[LogRow]:
    """Read the whole lines of a metrics file, up to a step.

    The file need not exist. What follows a damaged line, the mark of a killed process, is left out.

    Example:
        >>> read_metrics(Path("nowhere/metrics.jsonl"))
        []
    """
    rows: list[LogRow] = []
    if not path.is_file():
        return rows
    for line in path.read_text(errors="replace").splitlines():
        try:
            row = parse_json(line)
        except ValueError:
            break
        if not _is_row(row):
            break
        if last_step is None or row["step"] <= last_step:
            rows.append(row)
    return rows


def _is_row(row: object) -> bool:
    """Whether it is a line of numbers that float32 holds, as TensorBoard's are, with its step."""
    if not isinstance(row, dict) or type(row.get("step")) is not int or row["step"] < 0:
        return False
    numbers = [value for value in row.values() if value is not None]
    return all(type(value) in (int, float) and abs(value) < _MOST for value in numbers)


class MetricsLog:
    """Writes rows to ``metrics.jsonl`` and to a TensorBoard event file.

    The file of rows is the record. On a restart it is cut back to the step that the run continues
    from, and the events are written again from it: neither ever holds a step twice.
    """

    def __init__(self, workdir: Path, last_step: int | None) -> None:
        """Open the log.

        ``last_step`` is the step that the run continues from; None for a new run.
        """
        self._path = workdir / METRICS_FILE
        kept = [] if last_step is None else read_metrics(self._path, last_step)
        write_file(self._path, "".join(_line(row) for row in kept).encode())
        events = workdir / EVENTS_FOLDER
        with storage_errors(events):
            shutil.rmtree(events, ignore_errors=True)
            events.mkdir(parents=True)
            self._rows = self._path.open("a")
            self._events = new_event_file(events).open("ab")
            for row in kept:
                self._write_events(row)

    def write(self, row: LogRow) -> None:
        """Add a row.

        Raises:
            UserError: the disk is full.
        """
        clean = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }
        with storage_errors(self._path):
            self._rows.write(_line(clean))
            self._rows.flush()
            self._write_events(clean)

    def sync(self) -> None:
        """Bring every row to the disk; called before a checkpoint, which must not be ahead."""
        with storage_errors(self._path):
            os.fsync(self._rows.fileno())
            self._events.flush()

    def _write_events(self, row: LogRow) -> None:
        for name, value in row.items():
            if name not in ("step", "time") and value is not None:
                kind = "val" if name.startswith("val_") else "train"
                tag = f"{kind}/{name.removeprefix('val_')}"
                at, when = int(row["step"] or 0), float(row.get("time") or 0.0)
                event = scalar_event(tag, float(value), at, when)
                self._events.write(event)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with storage_errors(self._path):
            self._rows.close()
            self._events.close()


def _line(row: LogRow) -> str:
    return json.dumps(row) + "\n"
