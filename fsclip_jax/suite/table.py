"""From the reports of the cells to one table with means over the data sets."""

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fsclip_jax import __version__
from fsclip_jax.report.intervals import confidence_interval
from fsclip_jax.report.rows import Row, ordered
from fsclip_jax.suite.config import SuiteConfig
from fsclip_jax.suite.run import Done

SCHEMA = 1
"""Version of the format of ``suite.json``."""


@dataclass(frozen=True)
class Mean:
    """Mean over the data sets of one method.

    Attributes:
        backbone: name of the backbone.
        method: name of the method.
        shots: labelled images per class.
        split: group of the query images.
        mean: mean over the data sets, in percent.
        ci95: half-width of the 95 % interval over the draws; None for a single draw.
        per_seed: mean over the data sets of every draw.
        n_data: number of data sets.
    """

    backbone: str
    method: str
    shots: int
    split: str
    mean: float
    ci95: float | None
    per_seed: tuple[float, ...]
    n_data: int


def means_of(done: Sequence[Done]) -> tuple[Mean, ...]:
    """Average every method over the data sets, draw by draw.

    A method has a mean only where it has a number on every data set of the suite: means over
    different data sets cannot be compared. A data set where all shots are all images has one
    draw, which stands for every draw.

    Args:
        done: the cells.

    Returns:
        The means, in the order of the cells.
    """
    data = ordered([each.cell.data for each in done])
    found: dict[tuple[str, str, int, str], dict[str, Row]] = {}
    for each in done:
        for row in each.report.rows if each.report else ():
            place = each.cell.backbone, row.method, row.shots, row.split
            found.setdefault(place, {})[each.cell.data] = row
    means = []
    for place, rows in found.items():
        if set(rows) != set(data):
            continue
        every = [np.asarray(rows[name].accuracy.per_seed, float) for name in data]
        draws = max(map(len, every))
        if not all(len(values) in (1, draws) for values in every):
            continue
        per_draw = np.mean([np.broadcast_to(values, draws) for values in every], axis=0)
        interval = confidence_interval(per_draw)
        means.append(Mean(*place, *interval, tuple(map(float, per_draw)), len(data)))
    return tuple(means)


def suite_to_json(
    suite: SuiteConfig, done: Sequence[Done], command: str = "", device: str = ""
) -> str:
    """Return the text of ``suite.json``.

    ``cells`` has an entry for every cell: ``data``, ``backbone``, ``method``, ``shots``,
    ``status`` (``done``, ``failed`` or ``left out``), ``reason``, ``folder`` (of its report,
    below that of the suite) and ``rows`` (as in ``report.json``). ``means`` has the fields of
    :class:`Mean`. ``data`` and ``backbones`` say what the names stand for.

    Args:
        suite: what was asked for.
        done: the cells.
        command: the command line.
        device: what the numbers were computed on.

    Returns:
        Indented JSON; numbers have 6 digits after the point.
    """
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    facts: dict[str, Any] = {}
    backbones: dict[str, Any] = {}
    for each in done:
        facts.setdefault(each.cell.data, {"spec": each.cell.config.data})
        backbones.setdefault(each.cell.backbone, {"spec": each.cell.config.backbone})
        if each.report is not None:
            facts[each.cell.data] |= each.report.data
            backbones[each.cell.backbone] |= each.report.backbone
    tree = {
        "schema": SCHEMA,
        "kind": "suite",
        "fsclip_version": __version__,
        "command": command,
        "device": device,
        "created": now,
        "protocol": suite.protocol,
        "label_space": suite.label_space,
        "settings": {
            "class_split": suite.class_split,
            "select": suite.select,
            "seeds": suite.seeds,
            "shots": sorted(set(suite.shots)),
        },
        "data": facts,
        "backbones": backbones,
        "warning": warnings(done),
        "means": [dataclasses.asdict(mean) for mean in means_of(done)],
        "cells": [_cell(each) for each in done],
    }
    return json.dumps(_rounded(tree), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _cell(each: Done) -> dict[str, Any]:
    status = "done" if each.report else "failed" if each.failed else "left out"
    cell = each.cell
    return {
        "data": cell.data,
        "backbone": cell.backbone,
        "method": cell.method,
        "shots": cell.shots,
        "status": status,
        "reason": each.reason,
        "folder": cell.place if each.report else None,
        "rows": [dataclasses.asdict(row) for row in each.report.rows] if each.report else [],
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


def warnings(done: Sequence[Done]) -> list[str]:
    """Say what a reader must know before trusting the table.

    Args:
        done: the cells.

    Returns:
        One line a matter: warnings of the reports, and cells whose data or weights have another
        version than those of their column.
    """
    lines: dict[str, list[str]] = {}
    versions: dict[tuple[str, str], Any] = {}
    for each in done:
        if each.report is None:
            continue
        name = each.cell.data
        for line in each.report.warning:
            if name not in lines.setdefault(line, []):
                lines[line].append(name)
        version = each.report.data.get("version"), each.report.backbone.get("sha256")
        if versions.setdefault((name, each.cell.backbone), version) != version:
            line = "cells of one column were made from different versions of data or weights"
            lines.setdefault(line, []).append(str(each.cell))
    return [f"{', '.join(names)}: {line}" for line, names in lines.items()]


def suite_to_markdown(suite: SuiteConfig, done: Sequence[Done]) -> str:
    """Return ``suite.md``: a row a method, a column a data set, and the average.

    Args:
        suite: what was asked for.
        done: the cells.

    Returns:
        For every backbone and group of images one table of averages against shots and one table
        a number of shots; then what failed, and warnings.
    """
    rows = {
        (each.cell.backbone, row.split, row.shots, row.method, each.cell.data): row
        for each in done
        if each.report
        for row in each.report.rows
    }
    means = {(m.backbone, m.split, m.shots, m.method): m for m in means_of(done)}
    data = ordered([each.cell.data for each in done])
    shots = sorted({each.cell.shots for each in done})
    parts = ["# Suite", "", _about(suite, data)]
    for backbone, split in ordered([place[:2] for place in rows]):
        methods = ordered([place[3] for place in rows if place[:2] == (backbone, split)])
        images = "" if split == "test" else f", {split} classes"
        mean = {
            (method, str(shot)): _mean(means.get((backbone, split, shot, method)))
            for method in methods
            for shot in shots
        }
        if len(data) > 1:
            title = f"## {backbone}{images}: average over {len(data)} data sets, by shots"
            parts += ["", title, "", _table(methods, list(map(str, shots)), mean)]
        for shot in shots:
            values: dict[tuple[str, str], float | None] = {
                (method, name): row.accuracy.mean
                for method in methods
                for name in data
                if (row := rows.get((backbone, split, shot, method, name)))
            }
            values |= {(method, "average"): mean[method, str(shot)] for method in methods}
            columns = [*data, "average"] if len(data) > 1 else data
            word = "shot" if shot == 1 else "shots"
            parts += ["", f"## {backbone}{images}: {shot} {word}", ""]
            parts.append(_table(methods, columns, values))
    return "\n".join([*parts, *_troubles(done)]) + "\n"


def _about(suite: SuiteConfig, data: Sequence[str]) -> str:
    return (
        f"Accuracy in %, mean over {suite.seeds} draws of the support; {suite.protocol}, "
        f"settings chosen on {suite.select}. The best of a column is bold. The average is over "
        f"all {len(data)} data sets, and left out where one is missing; that of harmonic means is "
        "the mean of the data sets' harmonic means. Intervals and every draw are in suite.json."
    )


def _mean(mean: Mean | None) -> float | None:
    return None if mean is None else mean.mean


def _table(
    methods: Sequence[str],
    columns: Sequence[str],
    values: Mapping[tuple[str, str], float | None],
) -> str:
    best = {}
    for column in columns:
        there = [v for m in methods if (v := values.get((m, column))) is not None]
        best[column] = f"{max(there):.2f}" if there else ""
    lines = [
        f"| method | {' | '.join(columns)} |",
        f"|:--|{'--:|' * len(columns)}",
    ]
    for method in methods:
        cells = []
        for column in columns:
            value = values.get((method, column))
            text = "" if value is None else f"{value:.2f}"
            cells.append(f"**{text}**" if text and text == best[column] else text)
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _troubles(done: Sequence[Done]) -> list[str]:
    lines: list[str] = []
    for title, failed in (("Failed", True), ("Left out", False)):
        reasons: dict[str, list[str]] = {}
        for each in done:
            if each.report is None and each.failed == failed:
                reasons.setdefault(each.reason, []).append(str(each.cell))
        if reasons:
            lines += ["", f"## {title}", ""]
        for reason, cells in reasons.items():
            more = f" and {len(cells) - 3} more" if len(cells) > 3 else ""
            lines.append(f"- {'; '.join(cells[:3])}{more}: {reason}")
    told = warnings(done)
    return [*lines, *(["", "## Note", ""] if told else []), *(f"- {line}" for line in told)]
