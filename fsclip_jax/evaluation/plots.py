"""Accuracy against shots, as SVG."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsclip_jax.evaluation.report import Report, Row, ordered
from fsclip_jax.evaluation.tables import Table, tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The figure is drawn in colours that stand for a role. They become fixed colours in a file, and
# CSS variables in the page, where they follow the reader's light or dark theme.
INK, FAINT, PAPER = "#0a0b01", "#0a0b02", "#0a0b03"
_SERIES = tuple(f"#0a0c{i:02x}" for i in range(8))

LIGHT = {"ink": "#1d1d1f", "faint": "#d9d9de", "paper": "#ffffff"}
DARK = {"ink": "#ececf0", "faint": "#3a3a42", "paper": "#141417"}
SERIES_LIGHT = (
    "#7a7a84", "#b7791f", "#2f855a", "#2467c9", "#c7362f", "#7b4bb7", "#0f8794", "#94457a",
)  # fmt: skip
SERIES_DARK = (
    "#9a9aa5", "#e0aa4e", "#5fbf8c", "#74a7f2", "#f47a6e", "#b394e6", "#4fc0cc", "#d68cc0",
)  # fmt: skip


@dataclass(frozen=True)
class Style:
    """How a method is drawn: number of its colour, dashes, marker, width of its line."""

    colour: int
    dashes: str = "-"
    marker: str = "o"
    width: float = 1.5


KNOWN = {
    "zero_shot": Style(0, dashes=(":"), marker="None"),
    "prototype": Style(1, marker="s"),
    "text_prototype": Style(2, marker="D"),
    "tip_adapter": Style(3, marker="^"),
    "meta_adapter": Style(4, width=2.4),
    "meta_adapter_untrained": Style(4, dashes="--", marker="o", width=1.3),
}
"""Looks that stay the same from report to report. A variant shares the colour of its method."""


def styles(methods: Sequence[str]) -> dict[str, Style]:
    """Return how each method is drawn; methods that are not known get the colours left over."""
    left = [i for i in range(len(_SERIES)) if i not in {KNOWN[m].colour for m in KNOWN}]
    new = [method for method in methods if method not in KNOWN]
    extra = {
        method: Style(left[i % len(left)], dashes="-" if i < len(left) else "-.", marker="v")
        for i, method in enumerate(new)
    }
    return {method: KNOWN.get(method) or extra[method] for method in methods}


def accuracy_figure(report: Report) -> str:
    """Draw one panel per split side by side, as an SVG file in the light colours.

    Args:
        report: the report.

    Returns:
        The text of an SVG file whose letters are shapes: it looks the same everywhere.
    """
    listed = tables(report)
    svg = _draw(report, listed, width=4.9 * len(listed), height=3.9, titles=True, letters="path")
    fixed = {INK: LIGHT["ink"], FAINT: LIGHT["faint"], PAPER: LIGHT["paper"]}
    return _recolour(svg, fixed | dict(zip(_SERIES, SERIES_LIGHT, strict=True)))


def panel(report: Report, split: str) -> str:
    """Draw one split, as SVG to be placed in the page.

    Args:
        report: the report.
        split: name of the split.

    Returns:
        An ``svg`` element without size of its own; its colours are the variables ``--ink``,
        ``--faint``, ``--paper`` and ``--series-0`` to ``--series-7`` of the page.
    """
    chosen = [table for table in tables(report) if table.split == split]
    svg = _draw(report, chosen, width=5.6, height=3.7, titles=False, letters="none")
    roles = {INK: "var(--ink)", FAINT: "var(--faint)", PAPER: "var(--paper)"}
    series = {colour: f"var(--series-{i})" for i, colour in enumerate(_SERIES)}
    svg = _recolour(svg[svg.index("<svg") :], roles | series)
    # Size, letters and style sheets are the page's business.
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    # Several panels share a page, and an id must be unique on it.
    svg = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{split}-", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="Accuracy against shots, {split}" ', 1)


def _recolour(svg: str, colours: Mapping[str, str]) -> str:
    return re.sub("#0a0[bc]0[0-9a-f]", lambda found: colours[found[0]], svg)


def _draw(
    report: Report,
    listed: Sequence[Table],
    *,
    width: float,
    height: float,
    titles: bool,
    letters: str,
) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    look = styles(ordered([row.method for row in report.rows]))
    settings: Any = {
        "svg.fonttype": letters,
        "svg.hashsalt": "fsclip",
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 10.5,
        "axes.linewidth": 0.8,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)
        FigureCanvasSVG(figure)
        axes = figure.subplots(1, len(listed), squeeze=False)[0]
        for place, table in zip(axes, listed, strict=True):
            _panel(place, table, look)
            if titles:
                place.set_title(table.title, loc="left", color=INK, fontsize=11.5, pad=10)
        stream = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(stream, format="svg", metadata=nothing)
    return stream.getvalue()


def _panel(axes: "Axes", table: Table, look: Mapping[str, Style]) -> None:
    place = {shots: math.log2(shots) for shots in table.shots}
    series = {
        method: [table.cells[method, s] for s in table.shots if (method, s) in table.cells]
        for method in table.methods
    }
    for order, (method, rows) in enumerate(series.items()):
        style = look[method]
        # Intervals of neighbouring methods would hide each other: each is moved a little.
        shift = 0.018 * (order - (len(series) - 1) / 2) * max(1.0, len(place) - 1)
        axes.errorbar(
            [place[row.shots] + shift for row in rows],
            [row.accuracy.mean for row in rows],
            yerr=[row.accuracy.ci95 or math.nan for row in rows],
            color=_SERIES[style.colour],
            linestyle=style.dashes,
            linewidth=style.width,
            marker=style.marker,
            markersize=4.5,
            markerfacecolor=PAPER if style.dashes == "--" else _SERIES[style.colour],
            elinewidth=1.0,
            capsize=2,
            zorder=3 + style.width,
        )
    _frame(axes, place)
    _name_lines(axes, series, look, right=max(place.values()))


def _frame(axes: "Axes", place: Mapping[int, float]) -> None:
    axes.set_facecolor(PAPER)
    axes.set_xticks(list(place.values()), [str(shots) for shots in place])
    axes.set_xlabel("labelled images per class", color=INK)
    axes.set_ylabel("accuracy (%)", color=INK)
    axes.tick_params(colors=INK, length=0, pad=6)
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(FAINT)
    values = list(place.values())
    axes.set_xlim(values[0] - 0.25, values[-1] + 0.25)
    axes.margins(y=0.08)


def _name_lines(
    axes: "Axes", series: Mapping[str, Sequence[Row]], look: Mapping[str, Style], right: float
) -> None:
    """Write the name of every method beside the end of its line, none upon another."""
    low, high = axes.get_ylim()
    gap = 0.066 * (high - low)
    ends = sorted((rows[-1].accuracy.mean, method) for method, rows in series.items() if rows)
    heights = spread([mean for mean, _ in ends], gap)
    top = max(high, heights[-1] + gap / 2)
    axes.set_ylim(min(low, heights[0] - gap / 2), top)
    for (mean, method), height in zip(ends, heights, strict=True):
        colour = _SERIES[look[method].colour]
        axes.annotate(
            method,
            xy=(right, mean),
            xytext=(right + 0.25, height),
            textcoords="data",
            color=colour,
            fontsize=9.5,
            va="center",
            annotation_clip=False,
            parse_math=False,
            fontweight="bold" if look[method].width > 2 else "normal",
        )


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Move ascending values apart as little as keeps each ``gap`` from the next.

    Overlapping values form a block around their mean; blocks that then touch are joined.

    Args:
        values: ascending.
        gap: least distance.

    Returns:
        The new places, ascending.

    Example:
        >>> spread([0.0, 10.0, 10.0], 1.0)
        [0.0, 9.5, 10.5]
    """
    blocks: list[tuple[float, int]] = []
    for value in values:
        centre, count = float(value), 1
        while blocks and centre - blocks[-1][0] < gap * (count + blocks[-1][1]) / 2:
            other, size = blocks.pop()
            centre = (centre * count + other * size) / (count + size)
            count += size
        blocks.append((centre, count))
    return [centre + gap * (i - (count - 1) / 2) for centre, count in blocks for i in range(count)]
