"""The details of a report as what a page shows: lengths of bars, paths and short texts."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from fsclip_jax.report.details import ClassAttention, ClassChanges, Details, Reliability
from fsclip_jax.report.intervals import LEAST_IN_BIN, wilson_interval
from fsclip_jax.report.shots import Shots, mean_shots
from fsclip_jax.report.tables import split_phrase

LEAST_NAMED, MOST_NAMED = 6, 12
"""Classes that are named on either side of a method's changes: as many as there are methods."""

MOST_COLUMNS = 160
"""Columns of the outline of all classes; where there are more classes, several share one."""

MOST_LABELLED = 24
"""Classes that are all named below that outline."""


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


def moved_classes(
    changes: ClassChanges, method: str, most: int
) -> tuple[list[ClassRow], list[ClassRow]]:
    """Return the classes that a method helps and hurts most, the largest change first."""
    change = changes.change[method]
    order = sorted(range(len(change)), key=lambda i: -change[i])
    rows = [
        ClassRow(changes.classes[i], changes.reference[i], changes.reference[i] + change[i])
        for i in order
    ]
    gained = [row for row in rows if row.after > row.before][:most]
    lost = [row for row in reversed(rows) if row.after < row.before][:most]
    return gained, lost


class SkyColumn(NamedTuple):
    """One class, or several side by side, in the outline of all: shares of its height in percent.

    ``low`` is where the bar begins, from below.
    """

    label: str
    title: str
    low: float
    height: float
    better: bool


class Skyline(NamedTuple):
    """The change of every class, sorted: columns, and marks of the axis with their height."""

    columns: list[SkyColumn]
    marks: list[tuple[str, float]]
    labelled: bool
    first: str
    last: str


def skyline(changes: ClassChanges, method: str) -> Skyline:
    """Lay the change of every class out, the most helped first.

    Where there are more classes than ``MOST_COLUMNS``, several are averaged into one column.
    """
    pairs = sorted(
        zip(changes.change[method], changes.classes, strict=True), key=lambda pair: -pair[0]
    )
    count = min(MOST_COLUMNS, len(pairs))
    edges = [round(i * len(pairs) / count) for i in range(count + 1)]
    groups = [pairs[a:b] for a, b in itertools.pairwise(edges)]
    means = [sum(change for change, _ in group) / len(group) for group in groups]
    top = 10.0 * math.ceil(max(1.0, *means) / 10)
    bottom = 10.0 * math.floor(min(0.0, *means) / 10)
    span = top - bottom
    columns = []
    for group, mean in zip(groups, means, strict=True):
        (_, first), (_, last) = group[0], group[-1]
        named = first if len(group) == 1 else f"{first} to {last}, {len(group)} classes"
        columns.append(
            SkyColumn(
                label=first,
                title=f"{named}: {mean:+.1f} points",
                low=100 * (min(mean, 0.0) - bottom) / span,
                height=100 * abs(mean) / span,
                better=mean > 0,
            )
        )
    marks = [(_points(at), 100 * (at - bottom) / span) for at in (top, 0.0, bottom)]
    (up, first), (down, last) = pairs[0], pairs[-1]
    return Skyline(
        columns,
        list(dict.fromkeys(marks)),
        len(pairs) <= MOST_LABELLED,
        f"{first} {_points(up)}",
        f"{last} {_points(down)}",
    )


def _points(change: float) -> str:
    return f"{change:+z.0f}".replace("-", "\N{MINUS SIGN}") if round(change) else "0"


def bearable(bins: Reliability, draws: int) -> Reliability:
    """Join neighbouring bins until each holds ``LEAST_IN_BIN`` images, as far as there are any."""
    joined: list[tuple[float, float, int]] = []
    for each in zip(bins.confidence, bins.accuracy, bins.count, strict=True):
        if joined and min(joined[-1][2], each[2]) < (LEAST_IN_BIN - 1) * draws:
            each = _join(joined.pop(), each)
        joined.append(each)
    confidence, accuracy, count = zip(*joined, strict=True) if joined else ((), (), ())
    return Reliability(confidence, accuracy, count)


def _join(one: tuple[float, float, int], two: tuple[float, float, int]) -> tuple[float, float, int]:
    n = one[2] + two[2]
    means = [(a * one[2] + b * two[2]) / n for a, b in zip(one[:2], two[:2], strict=True)]
    return means[0], means[1], n


def reliability_plot(bins: Reliability, draws: int, colour: str) -> Markup:
    """Draw accuracy against confidence; the diagonal is what perfect calibration would be.

    The bars are Wilson's 95 % intervals for the images of a bin: several draws ask the same ones.
    """
    points = [(100 * c, 100 - 100 * a) for c, a in zip(bins.confidence, bins.accuracy, strict=True)]
    bars = ""
    for (x, _), share, count in zip(points, bins.accuracy, bins.count, strict=True):
        low, high = wilson_interval(share * count / draws, count / draws)
        bars += f"M{x:.1f} {100 - 100 * high:.1f}V{100 - 100 * low:.1f}"
    gap = "L".join([f"{x:.1f} {y:.1f}" for x, y in points])
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2"/>' for x, y in points)
    line = (
        f'<path d="{bars}" style="stroke:{colour};stroke-width:1.1;opacity:.6"/>'
        f'<path d="M{gap}" style="fill:none;stroke:{colour};stroke-width:1.3"/>'
        if points
        else ""
    )
    marks = "".join(
        f'<text x="{at}" y="110" text-anchor="{side}">{at}</text>'
        f'<text x="-3" y="{103 - at}" text-anchor="end">{at}</text>'
        for at, side in ((0, "start"), (50, "middle"), (100, "end"))
    )
    return Markup(
        '<svg viewBox="-17 -3 122 117" role="img" aria-label="Reliability diagram">'
        f'<g style="font-size:8px;fill:var(--soft)">{marks}</g>'
        '<path d="M0 0V100H100" style="fill:none;stroke:var(--faint);stroke-width:1.2"/>'
        '<path d="M0 100L100 0" style="stroke:var(--quiet);stroke-width:1;stroke-dasharray:2 3"/>'
        f'{line}<g style="fill:{colour}">{dots}</g></svg>'
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
        f'<path d="{arc}" style="fill:none;stroke:var(--soft);stroke-width:10;'
        f'stroke-dasharray:{filled:.1f} 200"/>'
        '<text x="52" y="53" text-anchor="middle" style="font-size:24px;font-weight:650;'
        f'fill:var(--ink)">{gate:.2f}</text></svg>'
    )


def gate_ticks(gates: Sequence[float], most: int = 400) -> list[float]:
    """Return where along a line the gates stand, in percent; beyond ``most``, some of them."""
    count = min(most, len(gates))
    chosen = [gates[round(i * (len(gates) - 1) / max(1, count - 1))] for i in range(count)]
    return [100 * min(1.0, max(0.0, gate)) for gate in chosen]


def left_out(each: ClassAttention, shots: Shots) -> tuple[int, float]:
    """Count the shots of a class that are not shown, and the share of the attention they get."""
    shown = len(each.shots)
    # Reports that do not say it show eight shots of a class at most.
    count = (
        each.left_out
        if each.left_out is not None
        else max(0, mean_shots(shots) - shown) * (shown >= 8)
    )
    rest = 1.0 - each.text_weight - sum(shot.weight for shot in each.shots)
    return count, max(0.0, rest) if count else 0.0


def _cards_beside(details: Details) -> int:
    """Count the cards that are side by side: their shots are, where there is room."""
    tiles = max((len(each.shots) for each in details.attention), default=0) + 2
    return 4 if tiles <= 6 else 3 if tiles <= 9 else 2


def closer_look(details: Details, css: Mapping[str, str], where: str = "") -> dict[str, Any]:
    """Prepare the views of ``closer_look.html.j2``, with the colour of each method; else empty.

    Args:
        where: the split within a sentence.
    """
    changes, gains = details.changes, []
    shown = details.method
    if changes and changes.change:
        gains = gain_rows(changes)
        # Nothing changes under the reference: then the best of the others is shown.
        shown = details.method if details.method in changes.change else gains[0].method
    named = min(max(len(gains), LEAST_NAMED), MOST_NAMED)
    gained, lost = moved_classes(changes, shown, named) if changes and gains else ([], [])
    return {
        "where": where or split_phrase(details.split),
        "shown": shown,
        "gains": gains,
        "n_classes": len(changes.classes) if changes else 0,
        "skyline": skyline(changes, shown) if changes and gains else None,
        "moved": [(word, rows) for word, rows in (("Helped", gained), ("Hurt", lost)) if rows],
        "reliability": [
            (
                method,
                reliability_plot(
                    bearable(bins, details.draws), details.draws, css.get(method, "var(--quiet)")
                ),
                reliability_note(bins),
            )
            for method, bins in details.reliability.items()
        ],
        "attention": [
            (each, gate_dial(each.gate), *left_out(each, details.shots))
            for each in details.attention
        ],
        "cards": _cards_beside(details),
        "gates": gate_ticks(details.gates),
        "n_gates": len(details.gates),
    }
