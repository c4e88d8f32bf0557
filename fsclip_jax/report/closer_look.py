"""The details of a report as what a page shows: lengths of bars, paths and short texts."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from fsclip_jax.report.details import ClassChanges, Details, Reliability
from fsclip_jax.report.tables import split_phrase

MOST_CLASSES = 6
"""Classes that are named on either side of a method's changes."""


class GainRow(NamedTuple):
    """How one method changes the classes: shares in percent, and the mean change in points."""

    method: str
    worse: float
    same: float
    better: float
    mean: float


class ClassRow(NamedTuple):
    """Accuracy of one class before and after, in percent."""

    name: str
    before: float
    after: float


def gain_rows(changes: ClassChanges) -> list[GainRow]:
    """Count the classes that each method does better and worse on; the best mean first."""
    rows = []
    for method, change in changes.change.items():
        worse = 100 * sum(each < 0 for each in change) / len(change)
        better = 100 * sum(each > 0 for each in change) / len(change)
        mean = sum(change) / len(change)
        rows.append(GainRow(method, worse, max(0.0, 100 - worse - better), better, mean))
    return sorted(rows, key=lambda row: -row.mean)


def moved_classes(changes: ClassChanges, method: str) -> tuple[list[ClassRow], list[ClassRow]]:
    """Return the ``MOST_CLASSES`` that a method helps and hurts most, the largest change first."""
    change = changes.change.get(method, ())
    order = sorted(range(len(change)), key=lambda i: -change[i])
    rows = [
        ClassRow(changes.classes[i], changes.reference[i], changes.reference[i] + change[i])
        for i in order
    ]
    gained = [row for row in rows if row.after > row.before][:MOST_CLASSES]
    lost = [row for row in reversed(rows) if row.after < row.before][:MOST_CLASSES]
    return gained, lost


def skyline(change: Sequence[float], most: int = 160) -> Markup:
    """Draw the change of every class, sorted, as one filled outline above and below zero.

    Where there are more classes than ``most`` columns, several are averaged into one.
    """
    ordered = sorted(change, reverse=True)
    columns = min(most, len(ordered))
    edges = [round(i * len(ordered) / columns) for i in range(columns + 1)]
    means = [sum(ordered[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    height = max(10.0, *(abs(mean) for mean in means))
    step = 320 / len(means)
    parts = []
    for sign, colour in ((1, "good"), (-1, "bad")):
        path = "".join(
            f"V{50 - 50 * max(0.0, sign * mean) * sign / height:.1f}h{step:.2f}" for mean in means
        )
        parts.append(f'<path d="M0 50{path}V50Z" style="fill:var(--{colour})"/>')
    return Markup(
        '<svg viewBox="0 0 320 100" role="img" aria-label="Change of every class, sorted">'
        + "".join(parts)
        + '<path d="M0 50H320" style="stroke:var(--quiet);stroke-width:1"/></svg>'
    )


def reliability_plot(bins: Reliability, colour: str) -> Markup:
    """Draw accuracy against confidence; the diagonal is what perfect calibration would be."""
    points = [(100 * c, 100 - 100 * a) for c, a in zip(bins.confidence, bins.accuracy, strict=True)]
    most = max(bins.count, default=1)
    gap = "L".join([f"{x:.1f} {y:.1f}" for x, y in points])
    back = "L".join([f"{x:.1f} {100 - x:.1f}" for x, _ in reversed(points)])
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{1.3 + 3.2 * (count / most) ** 0.5:.1f}"/>'
        for (x, y), count in zip(points, bins.count, strict=True)
    )
    area = f'<path d="M{gap}L{back}Z" style="fill:{colour};opacity:.16"/>' if points else ""
    line = (
        f'<path d="M{gap}" style="fill:none;stroke:{colour};stroke-width:1.6"/>' if points else ""
    )
    return Markup(
        '<svg viewBox="-3 -3 106 106" role="img" aria-label="Reliability diagram">'
        '<path d="M0 0V100H100" style="fill:none;stroke:var(--faint);stroke-width:1.2"/>'
        '<path d="M0 100L100 0" style="stroke:var(--quiet);stroke-width:1;stroke-dasharray:2 3"/>'
        f'{area}{line}<g style="fill:{colour}">{dots}</g></svg>'
    )


def reliability_note(bins: Reliability) -> str:
    """Say on which side of the truth the confidence is.

    Example:
        >>> reliability_note(Reliability((0.9,), (0.8,), (10,)))
        'overconfident by 10.0 points'
    """
    total = sum(bins.count)
    gap = sum(
        n * (c - a) for c, a, n in zip(bins.confidence, bins.accuracy, bins.count, strict=True)
    )
    points = 100 * gap / total if total else 0.0
    if abs(points) < 0.05:
        return "neither over- nor underconfident"
    return f"{'over' if points > 0 else 'under'}confident by {abs(points):.1f} points"


def gate_dial(gate: float) -> Markup:
    """Draw a gate as a half circle that is filled as far as it is open."""
    arc = "M8 52A44 44 0 0 1 96 52"
    filled = 138.23 * gate
    return Markup(
        f'<svg viewBox="0 0 104 62" role="img" aria-label="gate {gate:.2f}">'
        f'<path d="{arc}" style="fill:none;stroke:var(--faint);stroke-width:10"/>'
        f'<path d="{arc}" style="fill:none;stroke:var(--series-4);stroke-width:10;'
        f'stroke-dasharray:{filled:.1f} 200"/>'
        '<text x="52" y="53" text-anchor="middle" style="font-size:24px;font-weight:650;'
        f'fill:var(--ink)">{gate:.2f}</text></svg>'
    )


def gate_strip(gates: Sequence[float], most: int = 400) -> Markup:
    """Draw one tick a class along a line from 0 to 1; beyond ``most``, some evenly chosen."""
    count = min(most, len(gates))
    chosen = [gates[round(i * (len(gates) - 1) / max(1, count - 1))] for i in range(count)]
    ticks = "".join(f"M{8 + 304 * min(1.0, max(0.0, g)):.1f} 6v16" for g in chosen)
    text = 'y="38" style="font-size:11px;fill:var(--soft)"'
    return Markup(
        '<svg viewBox="0 0 320 42" role="img" aria-label="gate of every class">'
        '<path d="M8 22H312" style="stroke:var(--faint);stroke-width:1.5"/>'
        f'<path d="{ticks}" style="stroke:var(--series-4);stroke-width:1;opacity:.45"/>'
        f'<text x="8" {text}>0 shut</text>'
        f'<text x="312" text-anchor="end" {text}>1 open</text></svg>'
    )


def closer_look(details: Details, css: Mapping[str, str]) -> dict[str, Any]:
    """Prepare the views of ``closer_look.html.j2``, with the colour of each method; else empty."""
    changes = details.changes
    gained, lost = moved_classes(changes, details.method) if changes else ([], [])
    return {
        "where": split_phrase(details.split),
        "gains": gain_rows(changes) if changes else [],
        "n_classes": len(changes.classes) if changes else 0,
        "skyline": skyline(changes.change[details.method])
        if changes and details.method in changes.change
        else "",
        "moved": [(word, rows) for word, rows in (("Helped", gained), ("Hurt", lost)) if rows],
        "reliability": [
            (
                method,
                reliability_plot(bins, css.get(method, "var(--quiet)")),
                reliability_note(bins),
            )
            for method, bins in details.reliability.items()
        ],
        "dials": [gate_dial(each.gate) for each in details.attention],
        "gate_strip": gate_strip(details.gates) if details.gates else "",
    }
