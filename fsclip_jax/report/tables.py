"""What every table of a report shares: methods by shots, the best of a column, other numbers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fsclip_jax.report.intervals import paired_difference
from fsclip_jax.report.metrics import METRICS, MetricInfo, main_metric, with_interval
from fsclip_jax.report.rows import Kind, Metric, Report, Row, ordered

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

EXAMPLES: Mapping[Kind, str] = {
    "eval": "labelled images",
    "detect": "labelled boxes",
    "segment": "labelled objects",
}
"""What shots are called."""


@dataclass(frozen=True)
class Table:
    """The rows of one split, laid out as methods by shots.

    Attributes:
        metric: what the cells show.
        methods: in the order of the rows.
        shots: ascending.
        rows: by method and number of shots, where there is one.
        best: methods with the best mean, for every number of shots; none of a single method.
    """

    split: str
    title: str
    metric: MetricInfo
    methods: tuple[str, ...]
    shots: tuple[int, ...]
    rows: Mapping[tuple[str, int], Row]
    best: Mapping[int, frozenset[str]]
    examples: str = EXAMPLES["eval"]

    def at(self, method: str, shots: int) -> Metric | None:
        """The number of a method, where there is one."""
        row = self.rows.get((method, shots))
        return row.metrics[self.metric.name] if row else None

    def column(self, shots: int) -> dict[str, Metric]:
        """The numbers of all methods that have one."""
        return {m: cell for m in self.methods if (cell := self.at(m, shots)) is not None}

    def last_rows(self) -> list[Row]:
        """The rows of the largest number of shots, in the order of the methods."""
        return [row for m in self.methods if (row := self.rows.get((m, self.shots[-1])))]


def metric_of(rows: Iterable[Row]) -> MetricInfo:
    """Return the metric that rows are mostly about, of which every report has one."""
    found = main_metric(name for row in rows for name in row.metrics)
    assert found is not None, "a report without a number is refused"
    return found


def tables(report: Report) -> list[Table]:
    """Return one table per split that was measured, in the order of the report."""
    metric = metric_of(report.rows)
    rows = [row for row in report.rows if metric.name in row.metrics]
    return [
        table_of(
            split,
            SPLIT_TITLES.get(split, split),
            [row for row in rows if row.split == split],
            metric,
            EXAMPLES[report.kind],
        )
        for split in ordered([row.split for row in rows])
    ]


def table_of(
    split: str,
    title: str,
    rows: Sequence[Row],
    metric: MetricInfo,
    examples: str = EXAMPLES["eval"],
) -> Table:
    """Lay rows of one split out as methods by shots."""
    shots = tuple(sorted({row.shots for row in rows}))
    columns = {
        shot: {row.method: row.metrics[metric.name] for row in rows if row.shots == shot}
        for shot in shots
    }
    return Table(
        split=split,
        title=title,
        metric=metric,
        methods=tuple(ordered([row.method for row in rows])),
        shots=shots,
        rows={(row.method, row.shots): row for row in rows},
        best={shot: best_of(column, metric) for shot, column in columns.items()},
        examples=examples,
    )


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


def tied(table: Table) -> dict[int, frozenset[str]]:
    """Find the methods that luck of the draw alone could have put behind the best of a column.

    Returns:
        For every number of shots the methods, not the best themselves, whose difference to the
        best, paired draw by draw, has a 95 % interval that reaches 0. None where there is a
        single draw: one cannot know.
    """
    return {shots: near_best(table.column(shots), table.best[shots]) for shots in table.shots}


def near_best(column: Mapping[str, Metric], best: frozenset[str]) -> frozenset[str]:
    """Find the methods of one column that :func:`tied` speaks of.

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


@dataclass(frozen=True)
class OtherNumbers:
    """All metrics but the main one, as text: one line a row, one column a metric."""

    metrics: tuple[MetricInfo, ...]
    lines: tuple[tuple[Row, tuple[str, ...]], ...]

    @property
    def head(self) -> tuple[str, ...]:
        """Title and unit of every column."""
        return tuple(metric.label for metric in self.metrics)

    @property
    def note(self) -> str:
        """How the numbers were computed."""
        return " ".join(metric.about for metric in self.metrics if metric.about)


def other_numbers(rows: Sequence[Row]) -> OtherNumbers:
    """List what was measured of rows beside what the tables show."""
    main = metric_of(rows)
    there = {name for row in rows for name in row.metrics} - {main.name}
    metrics = tuple(metric for metric in METRICS if metric.name in there)
    lines = [
        (row, tuple(number(row, metric) for metric in metrics))
        for row in rows
        if any(metric.name in row.metrics for metric in metrics)
    ]
    return OtherNumbers(metrics, tuple(lines))


def number(row: Row, metric: MetricInfo, digits: int | None = None) -> str:
    """Write a number of a row as it is shown; empty where it was not measured."""
    found = row.metrics.get(metric.name)
    if found is None:
        return ""
    half = None if found.ci95 is None else found.ci95 * metric.scale
    return with_interval(
        found.mean * metric.scale, half, metric.digits if digits is None else digits
    )


def differences(report: Report) -> list[tuple[Row, dict[str, str]]]:
    """List the paired differences of the main metric as text, by the reference method."""
    metric = metric_of(report.rows)
    listed = []
    for row in report.rows:
        found = {
            name: with_interval(each.mean, each.ci95, metric.digits, sign=True)
            for name, metrics in row.versus.items()
            if (each := metrics.get(metric.name))
        }
        if found:
            listed.append((row, found))
    return listed
