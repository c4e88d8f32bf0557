"""What was measured against shots, as SVG."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import escape

from fsclip_jax.report.metrics import MetricInfo, with_interval
from fsclip_jax.report.names import method_title
from fsclip_jax.report.rows import Metric, Report, ordered
from fsclip_jax.report.shots import Shots, mean_shots, shots_phrase
from fsclip_jax.report.styles import FAINT, INK, PAPER, SOFT, Style, recolour, styles
from fsclip_jax.report.tables import Table, leading, tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABEL = 9.0
"""Size of the names beside the lines, in points."""

WIDTH, PLOT, LEFT, ABOVE, BELOW = 4.9, 2.5, 0.4, 0.3, 0.5
"""Inches: a panel's width, its least height of axes, and the space around them."""

TALL = 0.29
"""Inches of the axes for each method, at least: as its line in the table beside the plot."""

SMALL = (2.5, 0.1, 1.25, 0.1, 0.26)
"""Inches of a panel without names: width, space at the right, height, space above and below."""


def report_figure(report: Report) -> str:
    """Draw one panel per split side by side, as an SVG in light colours; its letters are shapes."""
    listed = tables(report)
    look = styles(ordered([row.method for row in report.rows]), leading(report))
    return recolour(_draw(listed, look, titles=True, letters="path"), page=False)


def table_panel(table: Table, look: Mapping[str, Style], prefix: str, *, names: bool = True) -> str:
    """Draw one table as an ``svg`` element to be placed in a page, without size of its own.

    Its colours are CSS variables of the page. The parts of the i-th method have a title, and ids
    from ``prefix``, unique on a page, to ``-s<i>``. Without ``names`` the panel is small.
    """
    label = f"{table.metric.title.capitalize()} against shots, {table.title}"
    svg = for_page(_draw([table], look, titles=False, letters="none", names=names), prefix, label)
    for i, method in enumerate(table.methods):
        values = ", ".join(
            f"{shots_phrase(shots)} {with_interval(cell.mean, cell.ci95, table.metric.digits)}"
            for shots in table.shots
            if (cell := table.at(method, shots))
        )
        svg = with_title(svg, rf'<g id="[^"]*-s{i}">', f"{method_title(method)}: {values}")
    return svg


def with_title(svg: str, opening: str, text: str) -> str:
    """Show a text, escaped, to who points at the parts of a drawing that such a tag opens.

    Example:
        >>> with_title('<g id="a">', '<g id="a">', "1 < 2")
        '<g id="a"><title>1 &lt; 2</title>'
    """
    title = f"<title>{escape(text)}</title>"
    return re.sub(opening, lambda hit: hit[0] + title, svg)


def for_page(svg: str, prefix: str, label: str) -> str:
    """Make a drawing of matplotlib, in the colours of ``styles``, a part of a page.

    Size, letters and style sheets are the page's business.
    """
    svg = recolour(svg[svg.index("<svg") :], page=True)
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font: (?:\w+ )?([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r" font-family: [^;\"]*;| transform=\"rotate\(-0 [^\"]*\"", "", svg)
    svg = re.sub(r"<!--.*?-->|<defs>\s*</defs>", "", svg, flags=re.DOTALL)
    prefix = re.sub(r"\W+", "-", prefix)
    svg = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    svg = re.sub(r'="[^"]*"', lambda hit: re.sub(r"(\d\.\d\d)\d+", r"\1", hit[0]), svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def saved(figure: "Figure") -> str:
    """Write a figure as the text of an SVG file, the same every time."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure)
    stream = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(stream, format="svg", metadata=nothing)
    return stream.getvalue()


def plot_settings(letters: str) -> Any:
    """Return the settings of matplotlib that every plot is drawn with."""
    return {
        "svg.fonttype": letters,
        "svg.hashsalt": "fsclip",
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9.5,
        "axes.linewidth": 0.8,
    }


def _draw(
    listed: Sequence[Table],
    look: Mapping[str, Style],
    *,
    titles: bool,
    letters: str,
    names: bool = True,
) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    longest = max(len(method_title(method)) for table in listed for method in table.methods)
    most = max(len(table.methods) for table in listed)
    # Names are set in the page's letters, which are narrower than those measured here.
    right = (0.60 if letters == "path" else 0.54) * LABEL * longest / 72 + 0.2
    height = max(PLOT, TALL * most)
    above = ABOVE + (0.3 if titles else 0.0)
    below, width = BELOW, WIDTH + 0.5 * max(0.0, right - 1.6)
    if not names:
        width, right, height, above, below = SMALL
    whole = above + height + below
    with matplotlib.rc_context(plot_settings(letters)):
        figure = Figure(figsize=(width * len(listed), whole), facecolor=PAPER)
        for i, table in enumerate(listed):
            box = (i * width + LEFT, below, width - LEFT - right, height)
            axes = figure.add_axes(
                (box[0] / width / len(listed), box[1] / whole, box[2] / width / len(listed),
                 box[3] / whole)
            )  # fmt: skip
            _panel(axes, table, look, names=names)
            if names:
                _name_lines(axes, table, look, height)
            if titles:
                axes.set_title(
                    table.title, loc="left", color=INK, fontsize=11, pad=24, parse_math=False
                )
        return saved(figure)


def _places(shots: Sequence[Shots]) -> dict[Shots, float]:
    """Where numbers of shots stand: apart by their doublings, one by one where two are equal."""
    doublings = [math.log2(mean_shots(each)) for each in shots]
    apart = len(set(doublings)) == len(doublings)
    return {each: doublings[i] if apart else float(i) for i, each in enumerate(shots)}


def _series(table: Table) -> dict[str, list[tuple[Shots, Metric]]]:
    """The numbers of every method by shots."""
    return {
        method: [(s, cell) for s in table.shots if (cell := table.at(method, s))]
        for method in table.methods
    }


def _panel(axes: "Axes", table: Table, look: Mapping[str, Style], *, names: bool) -> None:
    place = _places(table.shots)
    series = _series(table)
    span = max(1.0, max(place.values()) - min(place.values()))
    loud = [method for method in series if not look[method].quiet]
    for order, (method, cells) in enumerate(series.items()):
        style = look[method]
        x = [place[shots] for shots, _ in cells]
        means = [cell.mean for _, cell in cells]
        (line,) = axes.plot(
            x, means, color=style.role, linestyle=style.dashes, linewidth=style.width,
            marker="o" if len(x) == 1 or (names and not style.quiet and style.dashes == "-")
            else "None",
            markersize=3.2, zorder=2 if style.quiet else 3 + style.width, clip_on=False,
        )  # fmt: skip
        line.set_gid(f"line-s{order}")
        if method in loud and names:
            # Intervals of neighbouring methods would hide each other: each is moved a little.
            shift = 0.012 * span * (loud.index(method) - (len(loud) - 1) / 2)
            low = [cell.mean - (cell.ci95 or math.nan) for _, cell in cells]
            high = [cell.mean + (cell.ci95 or math.nan) for _, cell in cells]
            bars = axes.vlines(
                [each + shift for each in x], low, high, color=style.role, linewidth=1.0, alpha=0.55
            )
            bars.set_gid(f"bars-s{order}")
    _frame(axes, place, span, table if names else None)


def _frame(axes: "Axes", place: Mapping[Shots, float], span: float, titles: Table | None) -> None:
    """Draw what is around the lines: shots below, values at the left, thin rules."""
    from matplotlib.ticker import MaxNLocator

    quiet_axes(axes)
    axes.set_xticks(list(place.values()), [str(shots) for shots in place])
    if titles:
        axes.set_xlabel(f"{titles.examples} per class", color=SOFT, labelpad=5)
        name_values(axes, titles.metric, (-LEFT * 72 + 3, 9.0))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    values = list(place.values())
    few = 0.5 if len(values) == 1 else 0.0
    axes.set_xlim(values[0] - 0.06 * span - few, values[-1] + 0.03 * span + few)
    axes.margins(y=0.04)


def quiet_axes(axes: "Axes") -> None:
    """Leave thin rules for the values and one line below, and no frame."""
    axes.set_facecolor("none")
    axes.tick_params(colors=SOFT, length=0, pad=5)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(FAINT)


def name_values(axes: "Axes", metric: MetricInfo, offset: tuple[float, float]) -> None:
    """Write above the values what they are, so many points from their upper end."""
    axes.annotate(
        metric.label, (0, 1), offset, xycoords="axes fraction", textcoords="offset points",
        color=SOFT, va="bottom",
    )  # fmt: skip


def _name_lines(axes: "Axes", table: Table, look: Mapping[str, Style], height: float) -> None:
    """Write the name of every method beside the end of its line, none upon another."""
    series, right = _series(table), _places(table.shots)[table.shots[-1]]
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    gap = 1.26 * LABEL / 72 / height * (high - low)
    order = list(series)
    ends = sorted((cells[-1][1].mean, method) for method, cells in series.items() if cells)
    heights = keep_apart([mean for mean, _ in ends], gap, (low, high))
    along = axes.get_yaxis_transform()
    edge = axes.transAxes.inverted().transform(axes.transData.transform((right, low)))[0]
    for (mean, method), at in zip(ends, heights, strict=True):
        style = look[method]
        (lead,) = axes.plot(
            [edge, 1.03, 1.06], [mean, at, at], transform=along, color=style.role,
            linewidth=0.6, alpha=0.7, clip_on=False, scalex=False, scaley=False,
        )  # fmt: skip
        name = axes.text(
            1.075, at, method_title(method), transform=along, fontsize=LABEL, va="center_baseline",
            color=SOFT if style.quiet else style.role, parse_math=False,
            fontweight="bold" if style.width > 2 else "normal",
        )  # fmt: skip
        lead.set_gid(f"lead-s{order.index(method)}")
        name.set_gid(f"name-s{order.index(method)}")


def keep_apart(
    values: Sequence[float], gap: float, within: tuple[float, float] = (-math.inf, math.inf)
) -> list[float]:
    """Move ascending values apart as little as keeps each ``gap`` from the next.

    Overlapping values form a block around their mean; blocks that then touch are joined. All stay
    between the two places of ``within``, as far as there is room.

    Example:
        >>> keep_apart([0.0, 10.0, 10.0], 1.0)
        [0.0, 9.5, 10.5]
        >>> keep_apart([0.0, 10.0, 10.0], 1.0, (0.0, 10.0))
        [0.0, 9.0, 10.0]
    """
    blocks: list[tuple[float, int]] = []
    for value in values:
        centre, count = float(value), 1
        while blocks and centre - blocks[-1][0] < gap * (count + blocks[-1][1]) / 2:
            other, size = blocks.pop()
            centre = (centre * count + other * size) / (count + size)
            count += size
        blocks.append((centre, count))
    places = [
        centre + gap * (i - (count - 1) / 2) for centre, count in blocks for i in range(count)
    ]
    low, high = within
    last = len(places) - 1
    places = [min(place, high - gap * (last - i)) for i, place in enumerate(places)]
    return [max(place, low + gap * i) for i, place in enumerate(places)]
