"""The result of an evaluation: ``report.json``, and all that the other formats are drawn from."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fsclip_jax.errors import UserError
from fsclip_jax.report.details import Details, details_from_tree, finite

SCHEMA = 1
"""Version of the format of ``report.json``."""


@dataclass(frozen=True)
class Accuracy:
    """Accuracy in percent over repeated draws.

    Attributes:
        mean: mean over the draws.
        ci95: half-width of the 95 % confidence interval; ``None`` for a single draw.
        per_seed: one number a support draw (or an episode).
    """

    mean: float
    ci95: float | None
    per_seed: tuple[float, ...]


@dataclass(frozen=True)
class Difference:
    """Mean and 95 % interval of the difference to another method, paired draw by draw."""

    mean: float
    ci95: float | None


@dataclass(frozen=True)
class Row:
    """One method at one number of shots on one group of classes.

    Attributes:
        method: name of the method.
        shots: labelled images per class.
        split: ``test`` (all classes), ``base``, ``novel`` or ``harmonic``.
        accuracy: in percent.
        selection: what was chosen, and on which images; empty where there is nothing to choose.
        fit_seconds: time to fit one task, without compiling; ``None`` for a derived row.
        predict_us_per_query: microseconds to classify one image, without compiling.
        state_bytes: size of what one fit leaves for classifying.
        class_mean_accuracy: mean over classes of the accuracy within a class, in percent.
        calibration_error: expected calibration error over 15 bins, in points of percent.
        negative_log_likelihood: mean over the images, in nats.
        versus: differences to reference methods, by their name.
    """

    method: str
    shots: int
    split: str
    accuracy: Accuracy
    selection: Mapping[str, Any] = field(default_factory=dict)
    fit_seconds: float | None = None
    predict_us_per_query: float | None = None
    state_bytes: int | None = None
    class_mean_accuracy: float | None = None
    calibration_error: float | None = None
    negative_log_likelihood: float | None = None
    versus: Mapping[str, Difference] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """A whole evaluation.

    Attributes:
        fsclip_version: of the program that measured.
        command: the command line.
        device: what the numbers were computed on.
        protocol: ``full_way``, ``cross_category`` or ``episodic``.
        label_space: ``restricted`` or ``generalised``.
        backbone: ``id`` and ``sha256`` of the CLIP.
        data: ``spec``, ``n_classes``, ``n_query`` and more.
        rows: the results.
        settings: seeds, shots, split of the queries and so on.
        checkpoints: where the trained adapters came from.
        versions: of the libraries.
        warning: what a reader must know before trusting the numbers; empty if nothing.
        created: time of the measurement, UTC.
        details: a closer look at the answers, where it was taken.
    """

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


def report_to_json(report: Report) -> str:
    """Return the text of ``report.json``: numbers rounded to 6 digits after the point.

    Args:
        report: the report.

    Returns:
        Indented JSON, with a list of numbers on one line.
    """
    tree = {"schema": SCHEMA, **_plain(asdict(report))}
    if report.details is None:
        del tree["details"]
    text = json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False)
    # A line break is never inside a string, so no name of a class is taken for a list.
    flat = re.compile(r"\[\n\s*(-?[\d.eE+-]+(?:,\n\s+-?[\d.eE+-]+)*)\n\s*\]")
    return flat.sub(lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]", text) + "\n"


def _plain(value: Any) -> Any:
    """The value with tuples as lists and floats rounded; what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def report_from_json(text: str, where: str = "report.json") -> Report:
    """Read a report from the text of its JSON.

    Args:
        text: the content of ``report.json``.
        where: how to call it in an error message.

    Returns:
        The report. Keys that this version does not know are left out.

    Raises:
        UserError: the text is no report of this schema; the line says what is wrong.
    """
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid JSON ({error}): run `fsclip eval` again") from None
    if not isinstance(tree, dict) or "rows" not in tree:
        raise UserError(f"{where} is not a report of `fsclip eval`: it has no rows")
    if tree.get("schema") != SCHEMA:
        raise UserError(
            f"{where} has schema {tree.get('schema')!r}; this version reads schema {SCHEMA}"
        )
    try:
        return _report(tree)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{where} is damaged ({reason}): run `fsclip eval` again to make it anew"
        ) from None


def _report(tree: Mapping[str, Any]) -> Report:
    rows = tuple(row_from_tree(row) for row in _typed(tree, "rows", list))
    if not rows:
        raise ValueError("it has no rows")
    data = dict(_typed(tree, "data", dict))
    data |= {name: int(data[name]) for name in ("n_classes", "n_query")}
    checkpoints = tuple(_typed(tree, "checkpoints", list, missing=[]))
    if not all(isinstance(each, dict) for each in checkpoints):
        raise TypeError("a checkpoint is no object")
    versions = _typed(tree, "versions", dict, missing={})
    return Report(
        fsclip_version=str(tree["fsclip_version"]),
        command=str(tree["command"]),
        device=str(tree["device"]),
        protocol=str(tree["protocol"]),
        label_space=str(tree["label_space"]),
        backbone=_typed(tree, "backbone", dict),
        data=data,
        rows=rows,
        settings=_typed(tree, "settings", dict, missing={}),
        checkpoints=checkpoints,
        versions={name: str(value) for name, value in versions.items()},
        warning=tuple(map(str, _typed(tree, "warning", list, missing=[]))),
        created=str(tree.get("created", "")),
        details=None if tree.get("details") is None else details_from_tree(tree["details"]),
    )


def row_from_tree(row: Any) -> Row:
    """Read one row from parsed JSON.

    Args:
        row: an entry of ``rows``.

    Returns:
        The row.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: something is missing or of another kind.
    """
    if not isinstance(row, dict):
        raise TypeError("a row is no object")
    accuracy = _typed(row, "accuracy", dict)
    versus = _typed(row, "versus", dict, missing={})
    return Row(
        method=str(row["method"]),
        shots=_shots(row["shots"]),
        split=str(row["split"]),
        accuracy=Accuracy(
            mean=_percent(accuracy["mean"]),
            ci95=_number(accuracy["ci95"]),
            per_seed=tuple(map(finite, _typed(accuracy, "per_seed", list))),
        ),
        selection=_typed(row, "selection", dict, missing={}),
        fit_seconds=_number(row.get("fit_seconds")),
        predict_us_per_query=_number(row.get("predict_us_per_query")),
        state_bytes=None if row.get("state_bytes") is None else int(row["state_bytes"]),
        class_mean_accuracy=_number(row.get("class_mean_accuracy")),
        calibration_error=_number(row.get("calibration_error")),
        negative_log_likelihood=_number(row.get("negative_log_likelihood")),
        versus={
            name: Difference(finite(versus[name]["mean"]), _number(versus[name]["ci95"]))
            for name in versus
        },
    )


_REQUIRED: Any = object()


def _typed(tree: Mapping[str, Any], name: str, kind: type, missing: Any = _REQUIRED) -> Any:
    """The entry of that name; ``missing`` where it is not there or null."""
    value = tree.get(name)
    if value is None and missing is not _REQUIRED:
        return missing
    if not isinstance(value, kind):
        raise TypeError(f"{name} is not of type {kind.__name__}")
    return value


def _number(value: Any) -> float | None:
    return None if value is None else finite(value)


def _percent(value: Any) -> float:
    percent = finite(value)
    if not -1e-3 <= percent <= 100 + 1e-3:
        raise ValueError(f"an accuracy of {percent} %")
    return percent


def _shots(value: Any) -> int:
    shots = int(value)
    if not 1 <= shots < 2**31:
        raise ValueError(f"{shots} shots")
    return shots


def read_report(path: Path) -> Report:
    """Read ``report.json``.

    Args:
        path: the file, or the folder that holds it.

    Returns:
        The report.

    Raises:
        UserError: there is no such file, or it is no report.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise UserError(
            f"no report at {file}: give the report.json that `fsclip eval` wrote, or its folder"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}") from None
    return report_from_json(text, str(file))


def ordered(values: Sequence[Any]) -> list[Any]:
    """Return the distinct values in the order of their first appearance."""
    return list(dict.fromkeys(values))
