"""The sentences of a report: what was measured and how, who is ahead, what was chosen."""

from collections.abc import Mapping, Sequence
from typing import Any

from fsclip_jax.report.intervals import paired_difference
from fsclip_jax.report.metrics import with_interval
from fsclip_jax.report.names import counted_title, data_title, method_title
from fsclip_jax.report.rows import Report, ordered
from fsclip_jax.report.shots import shots_phrase
from fsclip_jax.report.tables import Table, main_table, metric_of, split_word

REFERENCE = "zero_shot"
"""The method that the headline compares with."""

HONEST = "Nothing is ever chosen on the images that the methods are judged on."


def title(report: Report) -> str:
    """Head of the page."""
    return f"Few-shot {metric_of(report.rows).title} on {counted_title(report.data)}"


def group_note(report: Report, table: Table) -> str:
    """Say how many classes and images a group has, where the report does and the title does not."""
    groups = report.data.get("groups")
    found = groups.get(table.split) if isinstance(groups, Mapping) else None
    if not isinstance(found, Mapping):
        return ""
    classes = None if table.phrase else found.get("n_classes")
    counts = [(classes, "classes"), (found.get("n_query"), "images")]
    return ", ".join(f"{count:,} {name}" for count, name in counts if count)


def protocol_line(report: Report) -> str:
    """Say in one sentence what was measured."""
    settings, data = report.settings, report.data
    easy = settings.get("class_split") == "easy_hard"
    parts = "Easy base and hard novel part" if easy else "Base and novel halves"
    ways = {
        "full_way": "All classes at once",
        "cross_category": f"{parts} of the classes, {report.label_space} label space",
        "cross_dataset": f"Adapters and settings of {data_title(data)}, taken to other data sets",
        "domain_shift": f"Shots of {data_title(data)}, images of other domains",
        "episodic": f"Episodes of {settings.get('way', 'some')} classes",
        "transductive": f"Answers refined by other queries, batches {settings.get('batch')}",
        "detect": "A box and a class for every object",
        "segment": "A class for every pixel",
    }
    measured = ways.get(report.protocol, report.protocol)
    images = f"{data['n_query']:,} {settings.get('query_split', 'test')} images"
    line = f"{measured}; {images}, {data['n_classes']:,} classes."
    # Asked for val, and chosen on train: there was no val.
    if settings.get("select") == "val" and any(
        row.selection.get("split") == "train" for row in report.rows
    ):
        line += " No val images: settings were chosen by cross-validation within the shots."
    return line


def interval_line(report: Report) -> str:
    """Say what the plus-minus means."""
    metric = metric_of(report.rows)
    cells = (row.metrics.get(metric.name) for row in report.rows)
    most = max(len(cell.per_seed) for cell in cells if cell)
    draws = "episodes" if report.protocol == "episodic" else "support draws"
    shown = f"{metric.title.capitalize()} in {metric.unit}"
    if most < 2:
        return f"{shown}, of a single support draw: there is no interval."
    return (
        f"{shown}, mean over {most} {draws} ± 95 % confidence interval (Student-t). "
        "Every method sees the same draws and the same images."
    )


def ahead(table: Table, start: str = "With") -> str:
    """Say which method is ahead at the largest number of shots, and by how much."""
    shots, metric = table.shots[-1], table.metric
    column = table.column(shots)
    top = (max if metric.better == "higher" else min)(each.mean for each in column.values())
    first = [method for method, each in column.items() if each.mean == top]
    cell = column[first[0]]
    where = "" if table.split == "test" else f" on {table.where}"
    plural = "es" if table.examples.endswith("xes") else "s"
    examples = table.examples.removesuffix(plural) if shots == 1 else table.examples
    line = (
        f"{start} {shots} {examples} per class, {_all(first)} {'is' if len(first) == 1 else 'are'} "
        f"ahead{where}: {with_interval(cell.mean, cell.ci95, metric.digits)} {metric.unit}"
    )
    zero = column.get(REFERENCE)
    if zero is None or REFERENCE in first:
        return f"{line}."
    gain, half = cell.mean - zero.mean, None
    if len(cell.per_seed) == len(zero.per_seed) > 1:
        half = paired_difference(cell.per_seed, zero.per_seed).ci95
    points = with_interval(abs(gain), half, metric.digits)
    return f"{line}, {points} points {'above' if gain >= 0 else 'below'} zero-shot CLIP."


def _all(methods: Sequence[str]) -> str:
    """Name methods within a sentence."""
    *others, last = map(method_title, methods)
    return f"{', '.join(others)} and {last}" if others else last


def headline(report: Report) -> str:
    """Say in one sentence which method is ahead at the largest number of shots."""
    return ahead(main_table(report))


def selection_note(report: Report) -> str:
    """Say on which images settings were chosen, and of which rows that is not honest."""
    query_split = report.settings.get("query_split", "test")
    dishonest = ordered(
        [row.method for row in report.rows if row.selection.get("split") == query_split]
    )
    if not dishonest:
        return f"What was chosen, and on which images. {HONEST}"
    return (
        f"What was chosen, and on which images. {_all(dishonest)}: chosen on the very images that "
        "the methods are judged on, as the published code does. For parity only."
    )


def selection_lines(report: Report) -> list[str]:
    """Say for every method what was chosen and on which images, without repetitions."""
    lines = [
        f"{method_title(row.method)}, {shots_phrase(row.shots)}, {split_word(row.split)}: "
        f"{selection_text(row.selection)}"
        for row in report.rows
        if row.selection
    ]
    return ordered(lines)


def selection_text(selection: Mapping[str, Any]) -> str:
    """Write a selection as text.

    Example:
        >>> selection_text({"split": "val", "alpha": [1.0, 1.5], "settings_tried": 4000})
        'split val; alpha 1, 1.5; settings tried 4000'
    """
    return "; ".join(
        f"{name.replace('_', ' ')} {short(value)}" for name, value in selection.items()
    )


def short(value: Any) -> str:
    """Write a value of JSON in few words.

    Example:
        >>> short([0.12345, True]), short({"nms": 0.5})
        ('0.1235, yes', '(nms 0.5)')
    """
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return f"({selection_text(value)})"
    if isinstance(value, (list, tuple)):
        if len(value) > 5:
            return f"{', '.join(map(short, value[:3]))}, ... ({len(value)} values)"
        return ", ".join(map(short, value))
    return str(value)


def facts(report: Report) -> list[tuple[str, str]]:
    """List the circumstances of the measurement, as pairs of a name and a text."""
    data, backbone = report.data, report.backbone
    saw: dict[tuple[str, ...], list[str]] = {}
    for row in report.rows:
        if row.saw:
            saw.setdefault(row.saw, []).append(method_title(row.method))
    methods = ordered([row.method for row in report.rows])
    lines = [
        ("Command", report.command),
        ("Methods", ", ".join(f"{method_title(m)} ({m})" for m in methods)),
        ("Data", ", ".join(str(data[name]) for name in ("spec", "version") if data.get(name))),
        ("Classes short of shots", _short_classes(data)),
        ("Backbone", str(backbone.get("id"))),
        ("Weights, sha256", str(backbone.get("sha256") or "unknown")),
        ("Protocol", report.protocol),
        ("Label space", report.label_space),
        *((f"Saw {' and '.join(what)}", ", ".join(ordered(who))) for what, who in saw.items()),
        *((fact_name(name), short(value)) for name, value in report.settings.items()),
    ]
    lines += [
        (f"Checkpoint, {name}", short(value))
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
    found = data.get("classes_short_of_shots")
    if not isinstance(found, Mapping):
        return ""
    return ", ".join(f"{count} at {shots} shots" for shots, count in found.items())


def fact_name(name: str) -> str:
    """Write the name of a setting as the page shows it."""
    return name.replace("_", " ").capitalize()
