"""What was measured against what it costs, as SVG."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fsclip_jax.report.metrics import METRICS, MetricInfo
from fsclip_jax.report.names import method_title
from fsclip_jax.report.plots import (
    for_page,
    name_values,
    plot_settings,
    quiet_axes,
    saved,
    with_title,
)
from fsclip_jax.report.styles import INK, PAPER, QUIET, SOFT, Style
from fsclip_jax.report.tables import Table, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 8.5
"""Letters of the names, in points."""


class Dot(NamedTuple):
    """A method: what it costs, in the unit that is shown, and what it reaches."""

    method: str
    cost: float
    mean: float


class NameBox(NamedTuple):
    """A rectangle that a name takes, in points."""

    left: float
    low: float
    width: float
    height: float

    def overlap(self, other: "NameBox") -> float:
        """Area that two rectangles share."""
        x = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        y = min(self.low + self.height, other.low + other.height) - max(self.low, other.low)
        return max(0.0, x) * max(0.0, y)


def cost_panels(table: Table, look: Mapping[str, Style]) -> list[tuple[str, str]]:
    """Draw what was measured against each cost that two methods have, at the most shots."""
    drawn = []
    for cost in (metric for metric in METRICS if metric.cost):
        dots = [
            Dot(row.method, found.mean * cost.scale, row.metrics[table.metric.name].mean)
            for row in table.last_rows()
            if (found := row.metrics.get(cost.name)) and 0 < found.mean * cost.scale < 1e12
        ]
        if len(dots) > 1:
            label = f"{table.metric.title.capitalize()} against cost: {cost.title}"
            svg = for_page(_scatter(dots, table.metric, cost, look), cost.name, label)
            for i, dot in enumerate(dots):
                shown = number(table.rows[dot.method, table.shots[-1]], table.metric)
                text = (
                    f"{method_title(dot.method)}: {shown} {table.metric.unit}, "
                    f"{dot.cost:.3g} {cost.unit}"
                )
                svg = with_title(svg, rf'<g id="[^"]*-dot-{i}">', text)
            drawn.append((cost.title.capitalize(), svg))
    return drawn


def _scatter(
    dots: Sequence[Dot], metric: MetricInfo, cost: MetricInfo, look: Mapping[str, Style]
) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plot_settings("none")):
        figure = Figure(figsize=(3.8, 3.0), facecolor=PAPER)
        axes = figure.add_axes((0.09, 0.17, 0.88, 0.72))
        axes.set_xscale("log")
        front = undominated([(dot.cost, dot.mean) for dot in dots])
        steps = sorted((dots[i].cost, dots[i].mean) for i in front)
        axes.plot(
            [x for x, _ in steps], [y for _, y in steps], color=QUIET, linewidth=0.9, zorder=1,
            drawstyle="steps-post",
        )  # fmt: skip
        for i, dot in enumerate(dots):
            (drawn,) = axes.plot(
                [dot.cost], [dot.mean], "o", color=look[dot.method].role,
                markersize=4.2 if look[dot.method].quiet else 6.0, zorder=3,
            )  # fmt: skip
            drawn.set_gid(f"dot-{i}")
        _frame(axes, [dot.cost for dot in dots], metric, cost)
        _names(axes, dots, look, front)
        return saved(figure)


def _frame(axes: "Axes", costs: Sequence[float], metric: MetricInfo, cost: MetricInfo) -> None:
    quiet_axes(axes)
    low, high = math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))
    span = max(0.5, math.log10(max(costs) / min(costs)))
    axes.set_xlim(min(costs) / 10 ** (0.08 * span), max(costs) * 10 ** (0.22 * span))
    first, last = (math.log10(edge) for edge in axes.get_xlim())
    steps = (1, 2, 5) if last - first < 2 else (1,)
    ticks = [step * 10.0**power for power in range(low - 1, high + 1) for step in steps]
    ticks = [tick for tick in ticks if first <= math.log10(tick) <= last]
    axes.set_xticks(ticks, [f"{tick:,.6g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(f"{cost.unit}, logarithmic", color=SOFT, labelpad=4)
    name_values(axes, metric, (-23.0, 6.0))
    axes.margins(y=0.08)


def _names(
    axes: "Axes", dots: Sequence[Dot], look: Mapping[str, Style], front: Sequence[int]
) -> None:
    """Name the dots in colour and those of the front, where there is room for the name."""
    scale = 72 / axes.figure.dpi
    at = [tuple(scale * c for c in axes.transData.transform((dot.cost, dot.mean))) for dot in dots]
    named = [i for i, dot in enumerate(dots) if i in front or not look[dot.method].quiet]
    sizes = [(0.52 * SIZE * len(method_title(dots[i].method)), 1.1 * SIZE) for i in named]
    taken = [NameBox(x - 3.5, y - 3.5, 7, 7) for x, y in at]
    (left, low), (right, top) = scale * axes.transAxes.transform([(0, 0), (1, 1)])
    places = place_names([at[i] for i in named], sizes, taken, (left, low, right, top + 6))
    for i, place in zip(named, places, strict=True):
        if place is None:
            continue
        method, (x, y) = dots[i].method, at[i]
        middle = place.low + place.height / 2
        beside = max(place.left - x, x - place.left - place.width)
        if max(beside, abs(y - middle) - place.height / 2) > 7:
            near = min(max(x, place.left + 6), place.left + place.width - 6)
            axes.annotate(
                "", (x, y), (near, place.low if middle > y else middle), xycoords="figure points",
                textcoords="figure points",
                arrowprops={"arrowstyle": "-", "color": QUIET, "linewidth": 0.6, "shrinkA": 0},
            )  # fmt: skip
        axes.annotate(
            method_title(method), at[i], (place.left, place.low), xycoords="figure points",
            textcoords="figure points", fontsize=SIZE, va="bottom", parse_math=False,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.4, "alpha": 0.8}, zorder=2,
            color=INK if look[method].quiet else look[method].role,
        )  # fmt: skip


def place_names(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    taken: Sequence[NameBox],
    within: tuple[float, float, float, float],
    distance: float = 6.0,
) -> list[NameBox | None]:
    """Find a place beside each point for its name, upon no other name or dot.

    Places are ``within`` left, low, right and top of the room there is, and off what is ``taken``.
    None where every place around its point is taken.

    Example:
        >>> place_names([(50.0, 50.0)], [(20.0, 8.0)], [], (0.0, 0.0, 100.0, 100.0))
        [NameBox(left=56.0, low=46.0, width=20.0, height=8.0)]
    """
    placed: list[NameBox] = []
    found: list[NameBox | None] = []
    left, low, right, top = within
    for (x, y), (width, height) in zip(points, sizes, strict=True):
        sides = [
            side
            for d in (distance, 2 * distance, 3 * distance)
            for side in (
                (x + d, y - height / 2), (x - d - width, y - height / 2),
                (x - width / 2, y + d - 2), (x - width / 2, y - d - height + 2),
                (x + d - 2, y + d - 3), (x + d - 2, y - height - d + 3),
                (x - width - d + 2, y + d - 3), (x - width - d + 2, y - height - d + 3),
            )
        ]  # fmt: skip
        boxes = (NameBox(a, b, width, height) for a, b in sides)
        free = (
            box
            for box in boxes
            if box.left >= left
            and box.low >= low
            and box.left + width <= right
            and box.low + height <= top
            and not any(box.overlap(other) for other in [*placed, *taken])
        )
        chosen = next(free, None)
        found.append(chosen)
        if chosen is not None:
            placed.append(chosen)
    return found


def undominated(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the points that no other point beats in cost and accuracy alike.

    Example:
        >>> undominated([(1.0, 50.0), (2.0, 40.0), (3.0, 60.0)])
        [0, 2]
    """
    return [
        i
        for i, (cost, mean) in enumerate(points)
        if not any(
            other <= cost and top >= mean and (other, top) != (cost, mean) for other, top in points
        )
    ]
