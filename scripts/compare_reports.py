"""Compare two folders of stored comparisons: which numbers moved, and by how much.

    python scripts/compare_reports.py BEFORE AFTER

Every ``report.json`` below BEFORE is held against the one at the same place below AFTER, of
either schema. What takes time is not compared. Ends with 1 where an accuracy, an average precision
or an overlap moved, where a row is in one of the two only, or where a report is missing.
"""

import argparse
import sys
from pathlib import Path

from fsclip_jax.report.metrics import METRICS, main_metric
from fsclip_jax.report.rows import Report, read_report

TIMES = ("fit_seconds", "predict_us_per_query")


def differences(before: Report, after: Report) -> tuple[list[str], dict[str, float]]:
    """Return the rows that only one report has, and the largest difference of every metric."""
    old, new = (
        {(row.method, row.shots, row.split): row for row in report.rows}
        for report in (before, after)
    )
    alone = [" ".join(map(str, place)) for place in old.keys() ^ new.keys()]
    largest: dict[str, float] = {}
    for place in old.keys() & new.keys():
        for name, metric in old[place].metrics.items():
            other = new[place].metrics.get(name)
            if other is None:
                alone.append(f"{' '.join(map(str, place))}: {name}")
                continue
            # Schema 1 held one number of some metrics, where schema 2 has one a draw.
            pairs = [(metric.mean, other.mean), *zip(metric.per_seed, other.per_seed, strict=False)]
            moved = max(abs(a - b) for a, b in pairs)
            largest[name] = max(largest.get(name, 0.0), moved)
    return sorted(alone), largest


def main() -> int:
    """Print a line for every report and metric that moved."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    given = parser.parse_args()
    files = sorted(given.before.rglob("report.json"))
    failed = not files
    for file in files:
        place = file.relative_to(given.before)
        if not (given.after / place).is_file():
            print(f"{place.parent}: missing")
            failed = True
            continue
        before, after = read_report(file), read_report(given.after / place)
        alone, largest = differences(before, after)
        info = main_metric(largest)
        moved = {name: value for name, value in largest.items() if value and name not in TIMES}
        said = [
            f"{name} {value * scale_of(name):.3g} {unit_of(name)}" for name, value in moved.items()
        ]
        print(f"{place.parent}: {len(after.rows)} rows, {', '.join(said) or 'all equal'}")
        for row in alone:
            print(f"  only in one: {row}")
        failed |= bool(alone) or info is None or largest[info.name] > 0
    return int(failed)


def scale_of(name: str) -> float:
    """What turns a stored number into the one that is shown."""
    return next((info.scale for info in METRICS if info.name == name), 1.0)


def unit_of(name: str) -> str:
    """Unit of the number that is shown."""
    return next((info.unit for info in METRICS if info.name == name), "")


if __name__ == "__main__":
    sys.exit(main())
