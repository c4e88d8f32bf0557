"""The pages in a real browser: nothing on the console, every picture there, nothing too wide."""

import dataclasses
import json

import pytest
from browser import CHROMIUM, browse
from example_details import example_details
from example_report import METHODS, example_report
from example_suite import example_suite

from fsclip_jax.report.html import report_to_html
from fsclip_jax.report.suite import suite_from_json
from fsclip_jax.report.suite_html import suite_to_html

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium to open the pages with")

NASTY = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def pages():
    look = example_details(METHODS, (NASTY, "dog", "owl"), key=f"pets/{NASTY}.png")
    report = dataclasses.replace(example_report(spec=NASTY), details=look)
    suite = suite_from_json(json.dumps(example_suite(data=("emoji", NASTY, "pets"))))
    plain = report_to_html(example_report(methods={"zero_shot": (0.0, 0.0)}, shots=(2,)))
    return {"report": report_to_html(report), "suite": suite_to_html(suite), "plain": plain}


def test_pages_open_whole_at_the_width_of_a_desk_and_of_a_phone(pages, tmp_path):
    told, console = browse(tmp_path, pages, (1280, 390))
    assert console == []
    for page in told:
        assert page["broken"] == page["flat"] == 0, page
        assert page["wide"] <= page["width"], page
        assert page["scripts"] == 1, page  # the probe alone
        assert page["plots"] >= 3, page
        assert page["ink"] == "rgb(28, 28, 30)"
    assert {page["width"] for page in told} == {1280, 390}
    assert [page["pictures"] for page in told if page["page"] == "report"] == [8, 8]


def test_pages_follow_a_dark_theme(pages, tmp_path):
    told, console = browse(tmp_path, pages, (1280,), "--blink-settings=preferredColorScheme=0")
    assert console == []
    for page in told:
        assert page["paper"] == "rgb(19, 19, 22)"
        assert page["ink"] == "rgb(236, 236, 240)"
        assert page["text"] in ("rgb(163, 163, 174)", "rgb(236, 236, 240)"), page


def test_the_probe_sees_what_is_broken(tmp_path):
    page = (
        "<!doctype html><body><img src='data:image/png;base64,AAAA'><svg><text>a</text></svg>"
        "<div style='width:5000px'>wide</div><script>console.error('told')</script></body>"
    )
    told, console = browse(tmp_path, {"bad": page}, (600,))
    assert told[0]["broken"] == 1
    assert told[0]["wide"] > 600
    assert told[0]["flat"] == 1
    assert len(console) == 1
