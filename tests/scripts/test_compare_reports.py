"""The program that holds two folders of reports against each other."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from example_report import example_report

from fsclip_jax.report.rows import Metric, report_to_json

PROGRAM = Path(__file__).parents[2] / "scripts" / "compare_reports.py"


def compare(*folders):
    command = [sys.executable, str(PROGRAM), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_what_moved_and_what_is_missing_is_said(tmp_path):
    report = example_report()
    first = report.rows[0]
    accuracy = first.metrics["accuracy"]
    moved = Metric(accuracy.mean + 0.25, accuracy.ci95, accuracy.per_seed)
    slower = Metric(first.metrics["fit_seconds"].mean * 2)
    reports = {
        "old": report,
        "same": replace(report, rows=(with_metric(first, fit_seconds=slower), *report.rows[1:])),
        "moved": replace(report, rows=(with_metric(first, accuracy=moved), *report.rows[1:])),
        "fewer": replace(report, rows=report.rows[1:]),
    }
    for name, each in reports.items():
        (tmp_path / name / "one").mkdir(parents=True)
        (tmp_path / name / "one" / "report.json").write_text(report_to_json(each))
    code, said = compare(tmp_path / "old", tmp_path / "same")
    assert code == 0, said
    assert "all equal" in said
    code, said = compare(tmp_path / "old", tmp_path / "moved")
    assert code == 1
    assert "accuracy 0.25 %" in said
    code, said = compare(tmp_path / "old", tmp_path / "fewer")
    assert code == 1
    assert f"only in one: {first.method} {first.shots} {first.split}" in said
    (tmp_path / "none").mkdir()
    assert compare(tmp_path / "old", tmp_path / "none") == (1, "one: missing\n")


def with_metric(row, **metrics):
    return replace(row, metrics={**row.metrics, **metrics})
