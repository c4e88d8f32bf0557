"""Numbers that no comparison gives: refused in one line that says which and what is accepted."""

import copy
import dataclasses
import io
import json
import re
from xml.dom import minidom

import pytest
from example_details import example_details
from example_report import example_report
from example_suite import example_suite
from rich.console import Console

from fsclip_jax.errors import UserError
from fsclip_jax.report.html import report_to_html
from fsclip_jax.report.markdown import report_to_markdown
from fsclip_jax.report.plots import report_figure
from fsclip_jax.report.rows import report_from_json, report_to_json
from fsclip_jax.report.suite import suite_from_json
from fsclip_jax.report.terminal import print_report

EDITS = {
    "rows.0.metrics.accuracy.mean": ((1e308, -1.0, 100.5), "accuracy is .*accepted are 0 to 100"),
    "rows.0.metrics.accuracy.ci95": ((1e308, -0.5), "ci95 of accuracy is .*accepted are 0 to 1300"),
    "rows.0.metrics.accuracy.per_seed.1": ((1e308, -1.0), "a draw's accuracy is .*0 to 100"),
    "rows.0.metrics.nll.mean": ((1e308, -0.1), "nll is .*accepted are 0 to 1e[+]39"),
    "rows.0.metrics.calibration_error.mean": ((101.0,), "calibration_error is 101"),
    "rows.0.metrics.fit_seconds.mean": ((1e308, -1.0, 1e10), "fit_seconds is .*0 to 1e[+]09"),
    "rows.0.metrics.predict_us_per_query.mean": ((1e300,), "predict_us_per_query is"),
    "rows.0.metrics.state_bytes.mean": ((2**63, -5), "state_bytes is .*0 to 1e[+]15"),
    "rows.3.versus.zero_shot.accuracy.mean": ((1e308, -101.0), "accuracy is .*-100 to 100"),
    "rows.3.versus.zero_shot.accuracy.ci95": ((1e308, -1.0), "ci95 of accuracy"),
    "rows.0.shots": ((0, -1, 2**31, 1.5, 1e308), "shots"),
    "data.n_classes": ((-5, 2**63, 1.5, 1e308, True, "9"), "data.n_classes is .*whole numbers"),
    "data.n_query": ((-5, 10**30, 0.5, None), "data.n_query is"),
    "settings.seeds": ((-1, 2.5, 1e308), "settings.seeds is"),
    "settings.shots.0": ((-1, 2.5), "settings.shots is"),
    "details.changes.reference.0": ((101.0, -1.0, 1e308), "changes.reference"),
    "details.confusions.0.count": ((-1, 2**60, 0.5), "confusions"),
    "details.draws": ((-1, 10**30), "draws"),
}
SUITE_EDITS = {
    "cells.0.rows.0.metrics.accuracy.ci95": ((1e308, -1.0), "ci95 of accuracy"),
    "cells.0.shots": ((0, 1.5, 2**40), "shots"),
    "means.0.rows.0.metrics.accuracy.mean": ((1e308, -1.0), "accuracy is"),
    "data.emoji.n_query": ((-1, 1e308), "data.emoji.n_query is"),
    "settings.seeds": ((1e308, -3), "settings.seeds is"),
}
CASES = [
    pytest.param(kind, place, value, says, id=f"{place}={value}")
    for kind, edits in (("report", EDITS), ("suite", SUITE_EDITS))
    for place, (values, says) in edits.items()
    for value in values
]


def put(tree, place, value):
    *path, last = (int(step) if step.isdecimal() else step for step in place.split("."))
    for step in path:
        tree = tree[step]
    tree[last] = value


def edited(kind, place, value):
    tree = TREES[kind] = TREES.get(kind) or json.loads(
        report_to_json(dataclasses.replace(example_report(), details=DETAILS))
        if kind == "report"
        else json.dumps(example_suite())
    )
    tree = copy.deepcopy(tree)
    put(tree, place, value)
    return json.dumps(tree)


TREES = {}
DETAILS = example_details(["zero_shot", "tip_adapter", "meta_adapter"])
READ = {"report": report_from_json, "suite": suite_from_json}


@pytest.mark.parametrize(("kind", "place", "value", "says"), CASES)
def test_a_number_beyond_its_bounds_is_refused_with_the_bounds(kind, place, value, says):
    with pytest.raises(UserError, match=says) as caught:
        READ[kind](edited(kind, place, value))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("rows.0.metrics.nll.mean", 1e39),
        ("rows.0.metrics.accuracy.ci95", 635.3),
        ("rows.0.metrics.fit_seconds.mean", 1e9),
        ("rows.0.metrics.state_bytes.mean", 0),
        ("data.n_query", 2**53),
        ("rows.0.shots", 2**31 - 1),
    ],
)
def test_a_number_at_its_bound_is_drawn_and_read_again(place, value):
    report = report_from_json(edited("report", place, value))
    report_to_html(report)
    report_to_markdown(report)
    minidom.parseString(report_figure(report))
    print_report(report, Console(file=io.StringIO()))
    assert report_from_json(report_to_json(report)) == report


HOSTILE = "<b>$\\frac$ `*_x_*`|](javascript:0) \x1b[31m\r\u202e #0a0b0f &lt;"


def test_names_in_reports_are_text_on_every_page():
    text = report_to_json(example_report()).replace('"novel"', json.dumps(HOSTILE))
    report = report_from_json(text.replace('"tip_adapter"', json.dumps(HOSTILE)))
    markdown, html, svg = report_to_markdown(report), report_to_html(report), report_figure(report)
    terminal = io.StringIO()
    print_report(report, Console(file=terminal, width=200))
    for page in (markdown, html, svg, terminal.getvalue()):
        assert not {"\x1b", "\r", "\u202e"} & {*page}
    minidom.parseString(svg)
    assert "<b>$" not in html
    assert "&lt;b&gt;$" in html
    outside = re.sub(r"(?<!\\)(`+)(?!`).*?(?<!`)\1(?!`)", "", markdown)
    assert "\\<b\\>\\$\\\\frac\\$ \\`\\*\\_x\\_\\*\\`\\|\\](javascript:0)" in outside
    assert not re.search(r"(?<!\\)(<|\]\(|[`$])|(?<![\w\\])_", outside)
    tables = re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE)
    assert len(tables) > 4
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
