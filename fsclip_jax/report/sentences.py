"""The circumstances of a measurement in words: what was chosen, and how it was measured."""

from collections.abc import Mapping
from typing import Any

from fsclip_jax.report.rows import Report, ordered


def selection_lines(report: Report) -> list[str]:
    """Say for every method what was chosen and on which images, without repetitions."""
    lines = []
    for row in report.rows:
        if row.selection:
            chosen = describe(row.selection)
            lines.append(f"{row.method}, {row.shots}-shot, {row.split}: {chosen}")
    return ordered(lines)


def describe(selection: Any) -> str:
    """Write a selection as text.

    Example:
        >>> describe({"split": "val", "alpha": [1.0, 1.5], "settings_tried": 4000})
        'split val; alpha 1, 1.5; settings tried 4000'
    """
    return "; ".join(
        f"{name.replace('_', ' ')} {_short(value)}" for name, value in selection.items()
    )


def _short(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        if len(value) > 5:
            return f"{', '.join(map(_short, value[:3]))}, ... ({len(value)} values)"
        return ", ".join(map(_short, value))
    return str(value)


def facts(report: Report) -> list[tuple[str, str]]:
    """List the circumstances of the measurement, as pairs of a name and a text."""
    data, settings, backbone = report.data, report.settings, report.backbone
    lines = [
        ("Command", report.command),
        ("Data", _joined(data.get("spec"), data.get("version"))),
        ("Classes short of shots", _short_classes(data)),
        ("Backbone", str(backbone.get("id"))),
        ("Weights, sha256", str(backbone.get("sha256") or "unknown")),
        ("Protocol", report.protocol),
        ("Label space", report.label_space),
        *((_title(name), _short(value)) for name, value in settings.items()),
    ]
    lines += [
        (f"Checkpoint, {name}", _short(value))
        for checkpoint in report.checkpoints
        for name, value in checkpoint.items()
    ]
    lines += [
        ("Device", report.device),
        ("Versions", ", ".join(f"{name} {value}" for name, value in report.versions.items())),
        ("fsclip_jax", report.fsclip_version),
        ("Measured", report.created),
    ]
    return [(name, text) for name, text in lines if text]


def _short_classes(data: Mapping[str, Any]) -> str:
    """Say how many classes have fewer images than shots, which families allow."""
    short = data.get("classes_short_of_shots")
    if not isinstance(short, Mapping):
        return ""
    return ", ".join(f"{count} at {shots} shots" for shots, count in short.items())


def _joined(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part)


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
