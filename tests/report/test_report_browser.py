"""The pages in a real browser: nothing on the console, every picture there, nothing too wide."""

import dataclasses
import json
from pathlib import Path

import pytest
from browser import CHROMIUM, browse
from example_details import example_details
from example_report import METHODS, example_report
from example_suite import example_suite
from PIL import Image

from fsclip_jax.evaluation.thumbnails import data_uri
from fsclip_jax.report.html import report_to_html
from fsclip_jax.report.rows import read_report
from fsclip_jax.report.suite import suite_from_json
from fsclip_jax.report.suite_html import suite_to_html

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium to open the pages with")

# Earlier versions kept the whole of a photograph.
WIDE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAAD0lEQVR42mP8z8"
    "DAwMAAAAYIAQFyPMoyAAAAAElFTkSuQmCC"
)

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


@pytest.fixture(scope="module")
def full_pages():
    """Pages of the sizes that there are: splits, shots, cards and data sets, few and many."""
    made = {}
    for cards, shots in ((5, (1, 2, 4, 8, 16)), (8, (1, 2, 3, 4, 5, 6, 7, 8)), (12, (1, 4))):
        many = {f"method_{i}": (i, 1.0) for i in range(cards)}
        report = example_report(shots=shots, methods=METHODS | many)
        look = example_details(METHODS | many, cards=cards)
        look = dataclasses.replace(look, pictures=dict.fromkeys(look.pictures, WIDE))
        made[f"report{cards}"] = report_to_html(dataclasses.replace(report, details=look))
    data = tuple(f"data set {i}" for i in range(11))
    suite = example_suite(data, shots=(1, 2, 4, 8, 16))
    made["suite"] = suite_to_html(suite_from_json(json.dumps(suite)))
    made["old"] = report_to_html(read_report(Path(__file__).parent / "schema1_report.json"))
    return made


def test_a_desk_is_filled_and_a_phone_shows_the_most_shots(full_pages, tmp_path):
    told, _ = browse(tmp_path, full_pages, (1280, 1920, 390))
    for page in told:
        assert page["wide"] <= page["width"], page
        assert page["tables"], page
        assert not page["cut"] + page["bars"], page
        if page["width"] > 390:
            assert page["rows"], page
            assert not page["open"], page
            assert page["page"] == "old" or not page["bands"], page
    assert sum(page["pictures"] for page in told) > 300


def test_the_probe_sees_bars_orphans_cut_tables_and_empty_halves(tmp_path):
    cell = "<th style='min-width:300px'>a</th>"
    page = (
        "<!doctype html><body><main style='height:1400px'>left<div style='overflow:auto'>"
        f"<table class='shots'><thead><tr>{8 * cell}</tr></thead><tbody><tr>{cell}</tr></tbody>"
        "</table></div><div class='row' style='display:grid;grid-template-columns:1fr 1fr'>"
        "<p>orphan</p></div><img width='48' height='48' style='background:#fff' "
        f"src='{data_uri(Image.new('RGB', (30, 30)))}'></main></body>"
    )
    (told,), _ = browse(tmp_path, {"bad": page}, (800,))
    assert (told["cut"], told["open"], told["bars"]) == (1, 1, 1)
    assert told["bands"] == [500]


def test_pages_follow_a_dark_theme(pages, full_pages, tmp_path):
    pages = pages | {name: full_pages[name] for name in ("report12", "old")}
    told, console = browse(tmp_path, pages, (1280,), "--blink-settings=preferredColorScheme=0")
    assert console == []
    for page in told:
        assert not page["bars"], page
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
