"""What the pages of a suite show: for every backbone and split, methods by data sets."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fsclip_jax.report.measured import AVERAGE
from fsclip_jax.report.metrics import MetricInfo
from fsclip_jax.report.names import counted_title, data_title
from fsclip_jax.report.rows import Row, ordered
from fsclip_jax.report.sentences import ahead, fact_name, short
from fsclip_jax.report.shots import in_order, shots_phrase
from fsclip_jax.report.suite import StoredSuite
from fsclip_jax.report.tables import (
    SPLIT_TITLES,
    Listing,
    MethodGrid,
    Table,
    column_of,
    grid_of,
    metric_of,
    other_numbers,
    table_of,
)


@dataclass(frozen=True)
class SuitePart:
    """One backbone and split.

    Attributes:
        mean: methods by shots, averaged; None of a single data set, or where nothing has a mean.
        grids: averages by shots, then for every number of shots the data sets, most shots first.
    """

    title: str
    metric: MetricInfo
    tables: Mapping[str, Table]
    mean: Table | None
    grids: tuple[MethodGrid, ...]
    others: Listing
    lead: str


def parts_of(suite: StoredSuite) -> list[SuitePart]:
    """Lay the cells of a suite out, in their order."""
    found: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for cell in suite.cells:
        for row in cell.rows:
            place = found.setdefault((cell.backbone, row.split), {})
            place.setdefault(cell.data, []).append(row)
    several = len({backbone for backbone, _ in found}) > 1
    return [_part(suite, place, rows, several) for place, rows in found.items()]


def _part(
    suite: StoredSuite, place: tuple[str, str], rows: Mapping[str, list[Row]], several: bool
) -> SuitePart:
    backbone, split = place
    metric = metric_of(row for each in rows.values() for row in each)
    tables = {}
    for name, each in rows.items():
        known = suite.data.get(name, {})
        table = table_of(split, counted_title(known, name), each, metric)
        tables[name] = replace(table, phrase=data_title(known) or name)
    means = [
        row
        for each in suite.means
        for row in each.rows
        if (each.backbone, row.split) == place and metric.name in row.metrics
    ]
    many = len(suite.names) > 1 and bool(means)
    mean = table_of(split, AVERAGE, means, metric) if many else None
    first = next(iter(tables.values()))
    over = f"Averaged over {len(suite.names)} data sets" if mean else f"On {first.phrase}"
    of = f" with {backbone}" if several else ""
    return SuitePart(
        title=SPLIT_TITLES.get(split, split) + (f", {backbone}" if several else ""),
        metric=metric,
        tables=tables,
        mean=mean,
        grids=_grids(len(suite.names), mean, tables, metric),
        others=other_numbers(means) if mean else Listing((), (), ""),
        lead=ahead(mean or replace(first, phrase=""), f"{over}{of}, with"),
    )


def _grids(
    n_data: int, mean: Table | None, tables: Mapping[str, Table], metric: MetricInfo
) -> tuple[MethodGrid, ...]:
    every = [*tables.values(), *([mean] if mean else [])]
    methods = tuple(ordered([method for table in every for method in table.methods]))
    shots = in_order(s for table in tables.values() for s in table.shots)

    grids = []
    if mean:
        title = f"Average over {n_data} data sets, by shots"
        grids.append(replace(grid_of(mean), title=title, methods=methods))
    for s in reversed(shots):
        columns = (
            column_of(table.phrase or table.title, table.column(s), metric) for table in every
        )
        grids.append(MethodGrid(shots_phrase(s), metric, methods, tuple(columns), intervals=False))
    return tuple(grids)


def suite_heads(suite: StoredSuite, parts: list[SuitePart]) -> tuple[str, str]:
    """Say what was measured, and on what."""
    what = parts[0].metric.title if parts else "numbers"
    name = suite.names[0]
    one = counted_title(suite.data.get(name, {}), name)
    return f"Few-shot {what}", one if len(suite.names) == 1 else f"{len(suite.names)} data sets"


def suite_title(suite: StoredSuite, parts: list[SuitePart]) -> str:
    """Head of the page."""
    return " on ".join(suite_heads(suite, parts))


def troubles(suite: StoredSuite) -> list[tuple[str, str, int, str]]:
    """List cells without a number: status, reason, how many, and the first of them."""
    found: dict[tuple[str, str], list[str]] = {}
    for cell in suite.cells:
        if not cell.rows:
            found.setdefault((cell.status, cell.reason), []).append(str(cell))
    listed = []
    for (status, reason), cells in sorted(found.items(), key=lambda each: each[0][0]):
        more = f" and {len(cells) - 3} more" if len(cells) > 3 else ""
        listed.append((status, reason, len(cells), "; ".join(cells[:3]) + more))
    return listed


def suite_facts(suite: StoredSuite) -> list[tuple[str, str]]:
    """List the circumstances of the measurement, as pairs of a name and a text."""
    data = [
        f"{name}: {facts.get('spec')}, {facts.get('n_classes', '?')} classes, "
        f"{facts.get('n_query', '?')} queries"
        for name, facts in suite.data.items()
    ]
    backbones = [
        f"{name}: {facts.get('spec')}, sha256 {facts.get('sha256') or 'unknown'}"
        for name, facts in suite.backbones.items()
    ]
    listed = [
        ("Command", suite.command),
        ("Protocol", f"{suite.protocol}, {suite.label_space} label space"),
        *((fact_name(name), short(value)) for name, value in suite.settings.items()),
        *(("Data", line) for line in data),
        *(("Backbone", line) for line in backbones),
        ("Device", suite.device),
        ("fsclip_jax", suite.fsclip_version),
        ("Measured", suite.created),
    ]
    return [(name, text) for name, text in listed if text]


def draws_line(suite: StoredSuite) -> str:
    """Say what the numbers are means of."""
    draws = f"Mean over {suite.seeds} support draws" if suite.seeds > 1 else "A single support draw"
    return (
        f"{draws}, the same for every method. The averages are over all data sets, and left out "
        "where one is missing; their intervals are over the draws. That of harmonic means is the "
        "mean of the data sets' harmonic means."
    )
