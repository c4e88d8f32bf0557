"""Accuracy against cost, as SVG."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fsclip_jax.report.plots import for_page, saved, settings, with_title
from fsclip_jax.report.rows import Row
from fsclip_jax.report.styles import FAINT, INK, PAPER, QUIET, SOFT, Style
from fsclip_jax.report.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 8.5
"""Letters of the names, in points."""

COSTS: tuple[tuple[str, str, Callable[[Row], float | None]], ...] = (
    ("Fit one task", "milliseconds", lambda row: _times(row.fit_seconds, 1e3)),
    ("Classify one image", "microseconds", lambda row: row.predict_us_per_query),
    ("State that a fit leaves", "KiB", lambda row: _times(row.state_bytes, 1 / 1024)),
)
"""Title, unit and value of each cost."""


class Box(NamedTuple):
    """A rectangle that a name takes, in points."""

    left: float
    low: float
    width: float
    height: float

    def overlap(self, other: "Box") -> float:
        """Area that two rectangles share."""
        x = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        y = min(self.low + self.height, other.low + other.height) - max(self.low, other.low)
        return max(0.0, x) * max(0.0, y)


def _times(value: float | int | None, unit: float) -> float | None:
    return None if value is None else value * unit


def cost_panels(table: Table, look: Mapping[str, Style]) -> list[tuple[str, str]]:
    """Draw accuracy against each cost at the largest number of shots.

    Args:
        table: the split.
        look: of the methods.

    Returns:
        A title and an ``svg`` element for every cost that at least two methods were measured by.
    """
    shots = table.shots[-1]
    rows = [table.cells[m, shots] for m in table.methods if (m, shots) in table.cells]
    drawn = []
    for number, (title, unit, value) in enumerate(COSTS):
        points = [
            (cost, row) for row in rows if (cost := value(row)) is not None and 0 < cost < 1e12
        ]
        if len(points) > 1:
            label = f"Accuracy against cost: {title.lower()}"
            svg = for_page(_scatter(points, unit, look), f"cost{number}", label)
            drawn.append((title, _titled(svg, points, unit)))
    return drawn


def _titled(svg: str, points: Sequence[tuple[float, Row]], unit: str) -> str:
    """Tell name and numbers of every dot to who points at it."""
    for i, (cost, row) in enumerate(points):
        text = f"{row.method}: {row.accuracy.mean:.1f} %, {cost:.3g} {unit}"
        svg = with_title(svg, rf'<g id="[^"]*dot-{i}">', text)
    return svg


def _scatter(points: Sequence[tuple[float, Row]], unit: str, look: Mapping[str, Style]) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(settings("none")):
        figure = Figure(figsize=(3.8, 3.0), facecolor=PAPER)
        axes = figure.add_axes((0.09, 0.17, 0.88, 0.72))
        axes.set_xscale("log")
        front = undominated([(cost, row.accuracy.mean) for cost, row in points])
        steps = sorted((points[i][0], points[i][1].accuracy.mean) for i in front)
        axes.plot(
            [x for x, _ in steps], [y for _, y in steps], color=QUIET, linewidth=0.9, zorder=1,
            drawstyle="steps-post",
        )  # fmt: skip
        for i, (cost, row) in enumerate(points):
            (dot,) = axes.plot(
                [cost], [row.accuracy.mean], "o", color=look[row.method].role,
                markersize=4.2 if look[row.method].quiet else 6.0, zorder=3,
            )  # fmt: skip
            dot.set_gid(f"dot-{i}")
        _frame(axes, [cost for cost, _ in points], unit)
        _names(axes, points, look, front)
        return saved(figure)


def _frame(axes: "Axes", costs: Sequence[float], unit: str) -> None:
    axes.set_facecolor("none")
    low, high = math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))
    span = max(0.5, math.log10(max(costs) / min(costs)))
    axes.set_xlim(min(costs) / 10 ** (0.08 * span), max(costs) * 10 ** (0.22 * span))
    first, last = (math.log10(edge) for edge in axes.get_xlim())
    steps = (1, 2, 5) if last - first < 2 else (1,)
    ticks = [step * 10.0**power for power in range(low - 1, high + 1) for step in steps]
    ticks = [tick for tick in ticks if first <= math.log10(tick) <= last]
    axes.set_xticks(ticks, [f"{tick:,.6g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(f"{unit}, logarithmic", color=SOFT, labelpad=4)
    axes.annotate(
        "accuracy, %", (0, 1), (-23, 6), xycoords="axes fraction", textcoords="offset points",
        color=SOFT, va="bottom",
    )  # fmt: skip
    axes.tick_params(colors=SOFT, length=0, pad=5)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(FAINT)
    axes.margins(y=0.08)


def _names(
    axes: "Axes",
    points: Sequence[tuple[float, Row]],
    look: Mapping[str, Style],
    front: Sequence[int],
) -> None:
    """Name the dots in colour and those of the front, where there is room for the name."""
    scale = 72 / axes.figure.dpi
    at = [tuple(scale * c for c in axes.transData.transform((x, row.accuracy.mean)))
          for x, row in points]  # fmt: skip
    named = [i for i, (_, row) in enumerate(points) if i in front or not look[row.method].quiet]
    sizes = [(0.52 * SIZE * len(points[i][1].method), 1.1 * SIZE) for i in named]
    boxes = [Box(x - 3.5, y - 3.5, 7, 7) for x, y in at]
    (left, low), (right, top) = scale * axes.transAxes.transform([(0, 0), (1, 1)])
    places = place_names([at[i] for i in named], sizes, boxes, (left, low, right, top + 6))
    for i, place in zip(named, places, strict=True):
        if place is None:
            continue
        row, (x, y) = points[i][1], at[i]
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
            row.method, at[i], (place.left, place.low), xycoords="figure points",
            textcoords="figure points", fontsize=SIZE, va="bottom", parse_math=False,
            color=INK if look[row.method].quiet else look[row.method].role,
        )  # fmt: skip


def place_names(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    taken: Sequence[Box],
    within: tuple[float, float, float, float],
    distance: float = 6.0,
) -> list[Box | None]:
    """Find a place beside each point for its name, upon no other name or dot.

    Args:
        points: x and y of each point.
        sizes: width and height of each name.
        taken: rectangles that must stay free.
        within: left, low, right and top of the room there is.
        distance: from the point to its name.

    Returns:
        A rectangle for each name; None where every place around its point is taken.

    Example:
        >>> place_names([(50.0, 50.0)], [(20.0, 8.0)], [], (0.0, 0.0, 100.0, 100.0))
        [Box(left=56.0, low=46.0, width=20.0, height=8.0)]
    """
    placed: list[Box] = []
    found: list[Box | None] = []
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
        boxes = (Box(a, b, width, height) for a, b in sides)
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

    Args:
        points: cost and accuracy.

    Returns:
        Their indices, ascending.

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
