"""From the reports of the cells to one suite, with means over the data sets."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fsclip_jax.report.measured import Measured, Place, circumstances, rows_of
from fsclip_jax.report.rows import Row, ordered
from fsclip_jax.report.shots import in_order
from fsclip_jax.report.suite import Means, StoredCell, StoredSuite
from fsclip_jax.suite.config import SuiteConfig
from fsclip_jax.suite.run import Done


def means_of(done: Sequence[Done]) -> tuple[Means, ...]:
    """Average every method over the data sets, draw by draw, backbone by backbone.

    A method has a mean only where it has a number on every data set of the suite: means over
    different data sets cannot be compared. A data set where all shots are all images has one
    draw, which stands for every draw. What is not measured draw by draw has no mean.
    """
    data = ordered([each.cell.data for each in done])
    found: dict[str, dict[Place, dict[str, Row]]] = {}
    for each in done:
        places = found.setdefault(each.cell.backbone, {})
        for row in each.report.rows if each.report else ():
            places.setdefault((row.split, row.method, row.shots), {})[each.cell.data] = row
    means = []
    for backbone, places in found.items():
        whole = {
            place: metrics
            for place, rows in places.items()
            if set(rows) == set(data) and (metrics := _means([rows[name] for name in data]))
        }
        rows = rows_of({place: Measured(metrics, {}, ()) for place, metrics in whole.items()})
        means.append(Means(backbone, rows))
    return tuple(means)


def _means(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Mean of every metric whose draws are there in all rows, or are one that stands for all."""
    found = {}
    for name in rows[0].metrics:
        every = [np.asarray(row.metrics[name].per_seed) for row in rows if name in row.metrics]
        draws = max(map(len, every))
        if len(every) == len(rows) and draws and {len(each) for each in every} <= {1, draws}:
            found[name] = np.mean([np.broadcast_to(each, draws) for each in every], axis=0)
    return found


def suite_of(
    suite: SuiteConfig, done: Sequence[Done], command: str = "", device: str = ""
) -> StoredSuite:
    """Gather what became of the cells, run by a command on a device."""
    data: dict[str, dict[str, Any]] = {}
    backbones: dict[str, dict[str, Any]] = {}
    for each in done:
        data.setdefault(each.cell.data, {"spec": each.cell.config.data})
        backbones.setdefault(each.cell.backbone, {"spec": each.cell.config.backbone})
        if each.report is not None:
            data[each.cell.data] |= each.report.data
            backbones[each.cell.backbone] |= each.report.backbone
    return StoredSuite(
        kind="suite",
        **circumstances(),
        command=command,
        device=device,
        protocol=suite.protocol,
        label_space=suite.label_space,
        settings={
            "class_split": suite.class_split,
            "select": suite.select,
            "seeds": suite.seeds,
            "shots": list(in_order(suite.shots)),
        },
        data=data,
        backbones=backbones,
        warning=tuple(warnings(done)),
        means=means_of(done),
        cells=tuple(map(_cell, done)),
    )


def _cell(each: Done) -> StoredCell:
    cell, report = each.cell, each.report
    return StoredCell(
        data=cell.data,
        backbone=cell.backbone,
        method=cell.method,
        shots=cell.shots,
        status="done" if report else "failed" if each.failed else "left out",
        reason=each.reason,
        folder=cell.place if report else None,
        rows=report.rows if report else (),
    )


def warnings(done: Sequence[Done]) -> list[str]:
    """Say, a line a matter, what a reader must know before trusting the table.

    These are warnings of the reports, and versions that differ from others of their column.
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
