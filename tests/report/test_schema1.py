"""Reports and suites that earlier versions wrote: still read, drawn and counted on."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from fsclip_jax.cli.main import main
from fsclip_jax.durable import only_writer
from fsclip_jax.errors import UserError
from fsclip_jax.report.html import report_to_html
from fsclip_jax.report.metrics import with_interval
from fsclip_jax.report.rows import read_report, report_from_json, report_to_json
from fsclip_jax.report.suite import read_suite, suite_from_json, suite_to_json
from fsclip_jax.report.suite_markdown import suite_to_markdown

HERE = Path(__file__).parent
REPORT, SUITE = HERE / "schema1_report.json", HERE / "schema1_suite.json"


def test_every_number_of_a_report_is_lifted():
    old, report = json.loads(REPORT.read_text()), read_report(REPORT)
    assert report.kind == "eval"
    assert len(report.rows) == len(old["rows"]) == 12
    names = {"negative_log_likelihood": "nll"}
    for row, before in zip(report.rows, old["rows"], strict=True):
        assert (row.method, row.shots, row.split) == tuple(
            before[name] for name in ("method", "shots", "split")
        )
        accuracy = row.metrics["accuracy"]
        assert before["accuracy"] == {
            "mean": accuracy.mean, "ci95": accuracy.ci95, "per_seed": list(accuracy.per_seed),
        }  # fmt: skip
        for name in ("fit_seconds", "state_bytes", "class_mean_accuracy", *names):
            found = row.metrics.get(names.get(name, name))
            assert before[name] == (found and found.mean)
        assert row.selection == before["selection"]
        for other, difference in before["versus"].items():
            mine = row.versus[other]["accuracy"]
            assert difference == {"mean": mine.mean, "ci95": mine.ci95}
    (pair,) = report.details.confusions
    assert pair.queries == old["details"]["confusions"][0]["asked"]
    assert len(report.details.pictures) == len(old["details"]["pictures"]) > 0


def test_a_lifted_report_is_written_as_schema_2_and_drawn(tmp_path):
    text = report_to_json(read_report(REPORT))
    assert json.loads(text)["schema"] == 2
    again = report_from_json(text)
    assert report_to_json(again) == text
    assert report_to_html(again) == report_to_html(read_report(REPORT))
    assert main(["report", str(REPORT), "--out", str(tmp_path)]) == 0
    assert "| Meta-Adapter |" in (tmp_path / "report.md").read_text()


def test_every_number_of_a_suite_is_lifted(tmp_path):
    old, suite = json.loads(SUITE.read_text()), read_suite(SUITE)
    for cell, before in zip(suite.cells, old["cells"], strict=True):
        assert (cell.data, cell.status) == (before["data"], before["status"])
        assert cell.rows[0].metrics["accuracy"].mean == before["rows"][0]["accuracy"]["mean"]
    (means,) = suite.means
    assert means.backbone == "mini"
    page = suite_to_markdown(suite)
    for row, before in zip(means.rows, old["means"], strict=True):
        assert row.metrics["accuracy"].mean == before["mean"]
        assert with_interval(before["mean"], before["ci95"]) in page
    text = suite_to_json(suite)
    assert json.loads(text)["schema"] == 2
    assert suite_from_json(text) == suite_from_json(suite_to_json(suite_from_json(text)))
    shutil.copy(SUITE, tmp_path / "suite.json")
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "suite.md").read_text() == page


@pytest.mark.parametrize("change", [{"rows": [{}]}, {"rows": 3}, {"details": [1]}, {"data": {}}])
def test_damage_to_an_old_report_is_told_in_one_line(change):
    text = json.dumps(json.loads(REPORT.read_text()) | change)
    with pytest.raises(UserError, match=r"^[^\n]*cannot be read[^\n]*$"):
        report_from_json(text)


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_of_two_that_draw_pages_at_once_one_is_refused(tmp_path, capsys):
    with only_writer(tmp_path, ".report.lock", "is drawing pages", "--out"):
        assert main(["report", str(REPORT), "--out", str(tmp_path)]) == 2
        assert f"is drawing pages in {tmp_path}; wait for it" in capsys.readouterr().err
    assert main(["report", str(REPORT), "--out", str(tmp_path)]) == 0
    assert not list(tmp_path.glob(".*"))
