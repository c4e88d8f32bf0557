"""What every table of a report shares: methods by shots, the best of a column, the wording."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fsclip_jax.report.intervals import paired_difference
from fsclip_jax.report.rows import Accuracy, Report, Row, ordered

SPLIT_TITLES = {
    "test": "All classes",
    "base": "Base classes",
    "novel": "Novel classes",
    "harmonic": "Harmonic mean of base and novel",
    "average": "Average over the targets",
}


@dataclass(frozen=True)
class Table:
    """The rows of one split, laid out as methods by shots.

    Attributes:
        split: name of the split.
        title: how the split is called on a page.
        methods: in the order of the report.
        shots: ascending.
        cells: row of a method at a number of shots, where there is one.
        best: methods with the highest mean, for every number of shots.
    """

    split: str
    title: str
    methods: tuple[str, ...]
    shots: tuple[int, ...]
    cells: dict[tuple[str, int], Row]
    best: dict[int, frozenset[str]]


def tables(report: Report) -> list[Table]:
    """Return one table per split, in the order of the report."""
    splits = ordered([row.split for row in report.rows])
    return [
        table_of(
            split, SPLIT_TITLES.get(split, split), [r for r in report.rows if r.split == split]
        )
        for split in splits
    ]


def table_of(split: str, title: str, rows: Sequence[Row]) -> Table:
    """Lay rows of one split out as methods by shots.

    Args:
        split: name of the split.
        title: how the table is called on a page.
        rows: one for every method and number of shots.

    Returns:
        The table.
    """
    shots = tuple(sorted({row.shots for row in rows}))
    best = {}
    for shot in shots:
        means = {row.method: round(row.accuracy.mean, 2) for row in rows if row.shots == shot}
        top = max(means.values())
        # With a single method there is nothing to be best of.
        names = [name for name, mean in means.items() if mean == top] if len(means) > 1 else []
        best[shot] = frozenset(names)
    return Table(
        split=split,
        title=title,
        methods=tuple(ordered([row.method for row in rows])),
        shots=shots,
        cells={(row.method, row.shots): row for row in rows},
        best=best,
    )


def main_table(report: Report) -> Table:
    """Return the split that a report is mostly about: novel classes, the average, or its first."""
    shown = {table.split: table for table in tables(report)}
    return shown.get("novel") or shown.get("average") or next(iter(shown.values()))


def leading(report: Report) -> frozenset[str]:
    """Return the methods that are ahead at the largest number of shots of the main split."""
    table = main_table(report)
    shots = table.shots[-1]
    rows = [table.cells[m, shots] for m in table.methods if (m, shots) in table.cells]
    top = max(row.accuracy.mean for row in rows)
    return frozenset(row.method for row in rows if row.accuracy.mean == top)


def tied(table: Table) -> dict[int, frozenset[str]]:
    """Find the methods that luck of the draw alone could have put behind the best of a column.

    Args:
        table: one split.

    Returns:
        For every number of shots the methods, not the best themselves, whose difference to the
        best, paired draw by draw, has a 95 % interval that reaches 0. None where there is a
        single draw: one cannot know.
    """
    found = {}
    for shots in table.shots:
        column = {m: row.accuracy for m in table.methods if (row := table.cells.get((m, shots)))}
        found[shots] = near_best(column, table.best[shots])
    return found


def near_best(column: Mapping[str, Accuracy], best: frozenset[str]) -> frozenset[str]:
    """Find the methods of one column that :func:`tied` speaks of.

    Args:
        column: accuracy of each method, of the same draws.
        best: the methods that are ahead.

    Returns:
        The others whose paired difference to the best has an interval that reaches 0.

    Example:
        >>> column = {"a": Accuracy(2.0, 2.5, (1.0, 2.0, 3.0))}
        >>> column["b"] = Accuracy(1.9, 0.9, (1.5, 2.0, 2.2))
        >>> sorted(near_best(column, frozenset({"a"})))
        ['b']
    """
    names = []
    for method, accuracy in column.items():
        if not best or method in best:
            continue
        mine, top = accuracy.per_seed, column[min(best)].per_seed
        if len(mine) != len(top) or len(mine) < 2:
            continue
        difference = paired_difference(mine, top)
        if abs(difference.mean) <= (difference.ci95 or 0.0):
            names.append(method)
    return frozenset(names)


def percent(mean: float, ci95: float | None, digits: int = 2, sign: bool = False) -> str:
    """Write a percentage with its interval.

    Example:
        >>> percent(61.234, 0.5)
        '61.23 ±0.50'
        >>> percent(3.0, None, digits=1, sign=True)
        '+3.0'
    """
    text = f"{mean:{'+' if sign else ''}.{digits}f}"
    return text if ci95 is None else f"{text} ±{ci95:.{digits}f}"


def protocol_line(report: Report) -> str:
    """Say in one sentence what was measured."""
    settings, data = report.settings, report.data
    easy = settings.get("class_split") == "easy_hard"
    parts = "Easy base and hard novel part" if easy else "Base and novel halves"
    ways = {
        "full_way": "All classes at once",
        "cross_category": f"{parts} of the classes, {report.label_space} label space",
        "cross_dataset": f"Adapters and settings of {data.get('spec')}, taken to other data sets",
        "domain_shift": f"Shots of {data.get('spec')}, images of other domains",
        "episodic": f"Episodes of {settings.get('way', 'some')} classes",
    }
    measured = ways.get(report.protocol, report.protocol)
    images = f"{data['n_query']:,} {settings.get('query_split', 'test')} images"
    return f"{measured}; {images}, {data['n_classes']:,} classes."


def interval_line(report: Report) -> str:
    """Say what the plus-minus means."""
    counts = {len(row.accuracy.per_seed) for row in report.rows}
    draws = "episodes" if report.protocol == "episodic" else "support draws"
    number = max(counts)
    if number < 2:
        return "Accuracy in %, of a single support draw: there is no interval."
    return (
        f"Accuracy in %, mean over {number} {draws} ± 95 % confidence interval (Student-t). "
        "Every method sees the same draws and the same images."
    )


def called(split: str) -> str:
    """Name a split within a sentence.

    Example:
        >>> called("novel"), called("imagenet_v2")
        ('the novel classes', 'imagenet_v2')
    """
    return f"the {SPLIT_TITLES[split].lower()}" if split in SPLIT_TITLES else split


def headline(report: Report) -> str:
    """Say in one sentence which method is ahead at the largest number of shots."""
    table = main_table(report)
    shots = table.shots[-1]
    rows = [table.cells[m, shots] for m in table.methods if (m, shots) in table.cells]
    top = max(rows, key=lambda row: row.accuracy.mean)
    where = "" if table.split == "test" else f" on {called(table.split)}"
    images = "image" if shots == 1 else "images"
    line = (
        f"With {shots} labelled {images} per class, {top.method} is ahead{where}: "
        f"{percent(top.accuracy.mean, top.accuracy.ci95)} %"
    )
    gain = top.versus.get("zero_shot")
    if gain is None or top.method == "zero_shot":
        return line + "."
    side = "above" if gain.mean >= 0 else "below"
    return line + f", {abs(gain.mean):.2f} points {side} zero-shot CLIP."


COST_HEAD = (
    "calibration error, points",
    "negative log-likelihood, nats",
    "fit one task, ms",
    "classify one image, µs",
    "state, KiB",
)
"""What :func:`costs` lists, in its order."""

COST_NOTE = (
    "The calibration error compares confidence and accuracy in 15 bins. Times are on the device "
    "named below, without compiling; the state is what one fit leaves for classifying."
)


def costs(report: Report) -> list[tuple[str, str, int, tuple[str, ...]]]:
    """List calibration and cost of every row that was measured.

    Returns:
        Tuples of split, method, shots and one text for each of ``COST_HEAD``.
    """
    listed = []
    for row in report.rows:
        numbers = (
            (row.calibration_error, 1.0, 1),
            (row.negative_log_likelihood, 1.0, 3),
            (row.fit_seconds, 1e3, 2),
            (row.predict_us_per_query, 1.0, 1),
            (row.state_bytes, 1 / 1024, 1),
        )
        if any(value is not None for value, _, _ in numbers):
            texts = (
                "" if value is None else f"{value * unit:,.{digits}f}"
                for value, unit, digits in numbers
            )
            listed.append((row.split, row.method, row.shots, tuple(texts)))
    return listed


HONEST = "Nothing is ever chosen on the images that the accuracy is measured on."


def selection_note(report: Report) -> str:
    """Say on which images settings were chosen, and of which rows that is not honest."""
    query_split = report.settings.get("query_split", "test")
    dishonest = ordered(
        [row.method for row in report.rows if row.selection.get("split") == query_split]
    )
    if not dishonest:
        return f"What was chosen, and on which images. {HONEST}"
    return (
        f"What was chosen, and on which images. {', '.join(dishonest)}: chosen on the very images "
        "that the accuracy is measured on, as the published code does. For parity only."
    )


def differences(report: Report) -> list[tuple[str, str, int, dict[str, str]]]:
    """List the paired differences.

    Returns:
        Tuples of split, method, shots and the differences as text, by the reference method.
    """
    return [
        (
            row.split,
            row.method,
            row.shots,
            {name: percent(d.mean, d.ci95, sign=True) for name, d in row.versus.items()},
        )
        for row in report.rows
        if row.versus
    ]
