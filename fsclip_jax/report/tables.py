"""What every table shares, of a report or a suite: methods by columns, and numbers by rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fsclip_jax.report.intervals import paired_difference
from fsclip_jax.report.metrics import METRICS, MetricInfo, main_metric, with_interval
from fsclip_jax.report.names import counted_title, data_title, method_title
from fsclip_jax.report.rows import Kind, Metric, Report, Row, ordered
from fsclip_jax.report.shots import Shots, in_order, shots_phrase

SPLIT_TITLES = {
    "test": "All classes",
    "base": "Base classes",
    "novel": "Novel classes",
    "rare": "Rare classes",
    "common": "Common classes",
    "frequent": "Frequent classes",
    "background": "Background",
    "harmonic": "Harmonic mean of base and novel",
    "average": "Average over the targets",
}

DIFFERENCES = (
    "Points between methods that saw the same draws, with the 95 % interval of the paired "
    "difference. An interval that does not reach 0 is a difference beyond luck of the draw."
)

EXAMPLES: Mapping[Kind, str] = {
    "eval": "labelled images",
    "detect": "labelled boxes",
    "segment": "labelled objects",
}
"""What shots are called."""


@dataclass(frozen=True)
class Table:
    """The rows of one split as methods, in their order, by shots, ascending."""

    split: str
    title: str
    metric: MetricInfo
    methods: tuple[str, ...]
    shots: tuple[Shots, ...]
    rows: Mapping[tuple[str, Shots], Row]
    examples: str = EXAMPLES["eval"]
    phrase: str = ""

    @property
    def where(self) -> str:
        """Its split within a sentence."""
        return self.phrase or split_phrase(self.split)

    def at(self, method: str, shots: Shots) -> Metric | None:
        """The number of a method, where there is one."""
        row = self.rows.get((method, shots))
        return row.metrics.get(self.metric.name) if row else None

    def column(self, shots: Shots) -> dict[str, Metric]:
        """The numbers of all methods that have one."""
        return {m: cell for m in self.methods if (cell := self.at(m, shots)) is not None}

    def last_rows(self) -> list[Row]:
        """The rows of the largest number of shots, in the order of the methods."""
        return [row for m in self.methods if (row := self.rows.get((m, self.shots[-1])))]


@dataclass(frozen=True)
class Column:
    """One column of a grid: numbers by method, the best, and those that tie with it."""

    title: str
    cells: Mapping[str, Metric]
    best: frozenset[str]
    tied: frozenset[str]


@dataclass(frozen=True)
class MethodGrid:
    """What is drawn as a table of methods by columns, with or without intervals in its cells."""

    title: str
    metric: MetricInfo
    methods: tuple[str, ...]
    columns: tuple[Column, ...]
    intervals: bool = True


@dataclass(frozen=True)
class Listing:
    """What is drawn as a table with a line a row: texts under a head, and what they mean."""

    head: tuple[str, ...]
    lines: tuple[tuple[Row, tuple[str, ...]], ...]
    note: str


def metric_of(rows: Iterable[Row]) -> MetricInfo:
    """Return the metric that rows are mostly about, of which every report has one."""
    found = main_metric(name for row in rows for name in row.metrics)
    assert found is not None, "a report without a number is refused"
    return found


def tables(report: Report) -> list[Table]:
    """Return one table per split that was measured, in the order of the report."""
    metric = metric_of(report.rows)
    rows = [row for row in report.rows if metric.name in row.metrics]
    named = _named_data(report)
    return [
        replace(
            table_of(
                split,
                counted_title(named[split]) if split in named else SPLIT_TITLES.get(split, split),
                [row for row in rows if row.split == split],
                metric,
                EXAMPLES[report.kind],
            ),
            phrase=data_title(named[split]) if split in named else "",
        )
        for split in ordered([row.split for row in rows])
    ]


def _named_data(report: Report) -> dict[str, Mapping[str, Any]]:
    """The data sets that splits are named after, where adapters are taken to other data."""
    targets = report.data.get("targets")
    listed = targets if isinstance(targets, (list, tuple)) else ()
    found = {str(each.get("name")): each for each in listed if isinstance(each, Mapping)}
    for split in ordered([row.split for row in report.rows]) if found else ():
        if split not in found and split not in SPLIT_TITLES:
            found[split] = report.data
    return found


def split_phrase(split: str) -> str:
    """Name a split within a sentence.

    Example:
        >>> [split_phrase(split) for split in ("novel", "test", "imagenet_v2")]
        ['the novel classes', 'all classes', 'imagenet_v2']
    """
    title = SPLIT_TITLES.get(split, "").lower()
    return title if split == "test" else f"the {title}" if title else split


def split_word(split: str) -> str:
    """Name a split in a narrow column.

    Example:
        >>> split_word("test"), split_word("novel")
        ('all classes', 'novel')
    """
    return "all classes" if split == "test" else split


def table_of(
    split: str,
    title: str,
    rows: Sequence[Row],
    metric: MetricInfo,
    examples: str = EXAMPLES["eval"],
) -> Table:
    """Lay rows of one split out as methods by shots."""
    methods = tuple(ordered([row.method for row in rows]))
    shots = in_order(row.shots for row in rows)
    places = {(row.method, row.shots): row for row in rows}
    return Table(split, title, metric, methods, shots, places, examples)


def grid_of(table: Table) -> MethodGrid:
    """Return the grid of a table, a column a number of shots."""
    columns = (column_of(shots_phrase(s), table.column(s), table.metric) for s in table.shots)
    return MethodGrid(table.title, table.metric, table.methods, tuple(columns))


def column_of(title: str, cells: Mapping[str, Metric], metric: MetricInfo) -> Column:
    """Mark the best of some methods, and those that luck alone could have put behind it."""
    best = best_of(cells, metric)
    return Column(title, cells, best, near_best(cells, best))


def best_of(column: Mapping[str, Metric], metric: MetricInfo) -> frozenset[str]:
    """Return the methods whose mean, as it is shown, is the best; none of a single method."""
    shown = {name: round(each.mean * metric.scale, metric.digits) for name, each in column.items()}
    if len(shown) < 2:
        return frozenset()
    top = (max if metric.better == "higher" else min)(shown.values())
    return frozenset(name for name, mean in shown.items() if mean == top)


def main_table(report: Report) -> Table:
    """Return the split that a report is mostly about: novel classes, the average, or its first."""
    shown = {table.split: table for table in tables(report)}
    return shown.get("novel") or shown.get("average") or next(iter(shown.values()))


def leading(report: Report) -> frozenset[str]:
    """Return the methods that are ahead at the largest number of shots of the main split."""
    table = main_table(report)
    means = {m: cell.mean for m, cell in table.column(table.shots[-1]).items()}
    top = (max if table.metric.better == "higher" else min)(means.values())
    return frozenset(method for method, mean in means.items() if mean == top)


def near_best(column: Mapping[str, Metric], best: frozenset[str]) -> frozenset[str]:
    """Find the methods that luck of the draw alone could have put behind the best of a column.

    Their difference to the best, paired draw by draw, has a 95 % interval that reaches 0. None
    where there is a single draw: one cannot know.

    Example:
        >>> column = {"a": Metric(2.0, 2.5, (1.0, 2.0, 3.0))}
        >>> column["b"] = Metric(1.9, 0.9, (1.5, 2.0, 2.2))
        >>> sorted(near_best(column, frozenset({"a"})))
        ['b']
    """
    names = []
    for method, cell in column.items():
        if not best or method in best:
            continue
        mine, top = cell.per_seed, column[min(best)].per_seed
        if len(mine) != len(top) or len(mine) < 2:
            continue
        difference = paired_difference(mine, top)
        if abs(difference.mean) <= (difference.ci95 or 0.0):
            names.append(method)
    return frozenset(names)


def other_numbers(rows: Sequence[Row]) -> Listing:
    """List what was measured of rows beside what the tables show, a column a metric."""
    there = {name for row in rows for name in row.metrics} - {metric_of(rows).name}
    metrics = [metric for metric in METRICS if metric.name in there]
    lines = (
        (row, tuple(number(row, metric) for metric in metrics))
        for row in rows
        if any(metric.name in row.metrics for metric in metrics)
    )
    note = " ".join(metric.about for metric in metrics if metric.about)
    return Listing(tuple(metric.label for metric in metrics), tuple(lines), note)


def number(row: Row, metric: MetricInfo) -> str:
    """Write a number of a row as it is shown; empty where it was not measured."""
    found = row.metrics.get(metric.name)
    if found is None:
        return ""
    half = None if found.ci95 is None else found.ci95 * metric.scale
    return with_interval(found.mean * metric.scale, half, metric.digits)


def differences(report: Report) -> Listing:
    """List the paired differences of the main metric, a column a reference method."""
    metric = metric_of(report.rows)
    found = [
        (row, {name: each for name, of in row.versus.items() if (each := of.get(metric.name))})
        for row in report.rows
    ]
    names = ordered([name for _, versus in found for name in versus])
    lines = (
        (
            row,
            tuple(
                with_interval(each.mean, each.ci95, metric.digits, sign=True)
                if (each := versus.get(name))
                else ""
                for name in names
            ),
        )
        for row, versus in found
        if versus
    )
    return Listing(
        tuple(f"minus {method_title(name)}" for name in names), tuple(lines), DIFFERENCES
    )
