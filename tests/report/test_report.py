import dataclasses
import html.parser
import io
import itertools
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from example_report import METHODS, example_report
from rich.console import Console

from fsclip_jax.durable import write_text
from fsclip_jax.errors import UserError
from fsclip_jax.report import plots
from fsclip_jax.report.html import report_to_html
from fsclip_jax.report.markdown import grid_table, report_to_markdown
from fsclip_jax.report.metrics import METRICS
from fsclip_jax.report.rows import Metric, read_report, report_from_json, report_to_json
from fsclip_jax.report.sentences import HONEST, headline
from fsclip_jax.report.styles import styles
from fsclip_jax.report.tables import grid_of, other_numbers, tables
from fsclip_jax.report.terminal import print_report
from fsclip_jax.report.write import draw_report, write_report

NASTY = '<script>alert(1)</script> & "$x_1$" | `tick`'


class Page(html.parser.HTMLParser):
    """Tags, attributes and whether every tag that was opened was closed in order."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_json_round_trip():
    report = example_report()
    text = report_to_json(report)
    again = report_from_json(text)
    assert report_to_json(again) == text
    assert again.rows[5].metrics["accuracy"].mean == pytest.approx(
        report.rows[5].metrics["accuracy"].mean, abs=1e-6
    )
    assert again.settings == report.settings
    assert again.checkpoints == report.checkpoints


def test_json_holds_the_fields_of_the_contract():
    tree = json.loads(report_to_json(example_report()))
    assert (tree["schema"], tree["kind"]) == (2, "eval")
    expected = {"fsclip_version", "command", "device", "protocol", "label_space", "backbone"}
    assert expected | {"data", "rows"} <= set(tree)
    assert set(tree["backbone"]) == {"id", "sha256"}
    assert {"spec", "n_classes", "n_query"} <= set(tree["data"])
    for row in tree["rows"]:
        fields = {"method", "shots", "split", "metrics", "selection", "saw", "versus"}
        assert fields == set(row)
        for metric in row["metrics"].values():
            assert set(metric) == {"mean", "ci95", "per_seed"}
        assert row["split"] in ("test", "base", "novel", "harmonic")


def test_what_is_not_finite_becomes_null():
    report = example_report()
    metrics = {"accuracy": Metric(50.0, float("nan"), (50.0,))}
    row = dataclasses.replace(report.rows[0], metrics=metrics)
    tree = json.loads(report_to_json(dataclasses.replace(report, rows=(row,))))
    assert tree["rows"][0]["metrics"]["accuracy"]["ci95"] is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "truncated"),
        ("{", "truncated"),
        ("[1]", "no rows"),
        ('{"schema": 1}', "no rows"),
        ('{"schema": 3, "rows": []}', "schema is 3"),
        ('{"schema": 1, "rows": []}', "fsclip_version"),
        ('{"schema": 1, "rows": [{"method": "a"}]}', "accuracy"),
        ('{"schema": 1, "rows": {"a": 1}}', "cannot be read"),
        ('{"schema": 1, "rows": [3]}', "cannot be read"),
        ('{"schema": 2, "rows": [3]}', "cannot be read"),
        ("9" * 5000, "out of range"),
        ("[" * 100_000, "brackets are nested"),
        ('{"schema": 2, "rows": [{"method": "a", "split": "test", "shots": 1e999}]}', "range"),
    ],
)
def test_a_damaged_report_is_told_in_one_line(tmp_path, text, says):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(UserError, match=says) as caught:
        read_report(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_report_and_one_that_is_no_text(tmp_path):
    with pytest.raises(UserError, match="no report at"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot read"):
        read_report(tmp_path / "report.json")


def _pages(text):
    report = report_from_json(text)
    return report_to_markdown(report), report_to_html(report)


def test_a_field_of_another_type_is_told_or_drawn_and_never_a_traceback(monkeypatch):
    monkeypatch.setattr(plots, "table_panel", lambda *_: "")  # drawn elsewhere, and slow
    few = {"zero_shot": (0.0, 0.0), "prototype": (1.0, 1.0)}
    tree = json.loads(report_to_json(example_report(shots=(1,), methods=few)))
    refused = 0
    for name in tree:
        for value in (None, 3, "x", [], {}):
            try:
                _pages(json.dumps(tree | {name: value}))
            except UserError:
                refused += 1
    assert refused > 20


def test_golden_table():
    table = tables(example_report(shots=(1, 4)))[1]
    assert grid_table(grid_of(table)).splitlines() == [
        "| method | 1 shot | 4 shots |",
        "| --- | --- | --- |",
        "| Zero-shot | 13.00 ±0 | 13.00 ±0 |",
        "| Prototype | 9.1 ±1.1 | 21.0 ±0.3 |",
        "| Text prototype | 16.1 ±1.1 | 21.0 ±0.3 |",
        "| Tip-Adapter | 15.1 ±1.1 | 19.0 ±0.3 |",
        "| Meta-Adapter | **17.6 ±1.1** | **23.5 ±0.3** |",
        "| Meta-Adapter, untrained | 16.2 ±1.1 | 20.9 ±0.3 |",
    ]


def test_calibration_and_cost_are_on_both_pages():
    report = example_report()
    others = other_numbers(report.rows)
    assert others.lines[0] == (report.rows[0], ("3.2", "1.500", "1.00", "12.5", "2.0"))
    assert all(row.split != "harmonic" for row, _ in others.lines)
    assert "| base | Zero-shot | 1 | 3.2 | 1.500 | 1.00 | 12.5 | 2.0 |" in report_to_markdown(
        report
    )
    assert "<td>1.500</td><td>1.00</td><td>12.5</td><td>2.0</td>" in "".join(
        report_to_html(report).split("\n")
    )


def test_every_metric_is_in_every_format():
    few = example_report(shots=(2,), methods={"zero_shot": (0.0, 0.0), "prototype": (1.0, 0.0)})
    metrics = {metric.name: Metric(40.0 + i) for i, metric in enumerate(METRICS)}
    rows = tuple(dataclasses.replace(row, metrics=metrics) for row in few.rows)
    report = dataclasses.replace(few, rows=rows)
    console = Console(width=200, file=io.StringIO())
    print_report(report, console)
    formats = (console.file.getvalue(), report_to_markdown(report), report_to_html(report))
    main, *others = METRICS
    for text in formats:
        assert "40.0" in text
        assert f"{main.title.capitalize()} in {main.unit}" in text
        for metric in others:
            number = metrics[metric.name].mean * metric.scale
            assert f"{number:,.{metric.digits}f}" in text
            assert set(metric.label.split()) <= set(re.split(r"[\s<>|]+", text))
    page = formats[-1]
    for metric in METRICS:
        assert (f'aria-label="Accuracy against cost: {metric.title}"' in page) == metric.cost


def test_a_setting_chosen_on_the_queries_is_never_called_honest():
    report = example_report()
    assert HONEST in report_to_markdown(report)
    assert HONEST in report_to_html(report)
    published = dataclasses.replace(report.rows[0], method="as", selection={"split": "test"})
    report = dataclasses.replace(report, rows=(*report.rows, published))
    for page in (report_to_markdown(report), report_to_html(report)):
        assert HONEST not in page
        assert "As: chosen on the very images" in page


def test_equal_bests_are_all_marked_and_a_lone_method_is_not():
    twice = {"zero_shot": (0.0, 0.0), "prototype": (1.0, 0.0), "text_prototype": (1.0, 0.0)}
    table = tables(example_report(methods=twice, shots=(2,)))[0]
    assert grid_of(table).columns[0].best == {"prototype", "text_prototype"}
    alone = tables(example_report(methods={"zero_shot": (0.0, 0.0)}, shots=(2,)))[0]
    assert table.shots == alone.shots
    assert not grid_of(alone).columns[0].best


def test_headline_names_the_best_on_novel_classes():
    line = headline(example_report())
    assert line.startswith("With 4 labelled images per class, Meta-Adapter is ahead on the novel")
    assert line.endswith("classes: 23.5 ±0.3 %, 10.5 ±0.3 points above zero-shot CLIP.")


def test_html_is_whole_and_needs_nothing_but_itself():
    text = report_to_html(example_report())
    page = Page(text)
    assert not page.open
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert text.count('aria-label="Accuracy against shots, ') == 3
    for name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "action", "data"):
            assert value.startswith("#")
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "prefers-color-scheme: dark" in text


def test_ids_of_the_plots_are_unique_on_the_page_and_every_reference_is_met():
    text = report_to_html(example_report())
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    references = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)
    assert {a or b for a, b in references} <= set(ids)


def test_no_fixed_colour_is_left_in_the_plots_of_the_page():
    look = styles(list(METHODS))
    for svg in (plots.table_panel(table, look, table.split) for table in tables(example_report())):
        assert "#0a0" not in svg
        assert "var(--soft)" in svg
        assert not set(re.findall(r"#[0-9a-f]{6}\b", svg))


@pytest.mark.parametrize("draw", [report_to_html, report_to_markdown, plots.report_figure])
def test_strings_of_the_user_are_escaped(draw):
    report = example_report(spec=NASTY, methods={"zero_shot": (0.0, 0.0), NASTY: (3.0, 1.0)})
    text = draw(dataclasses.replace(report, warning=(NASTY,), command=NASTY))
    if draw is report_to_html:
        assert "script" not in Page(text).tags
        assert NASTY in "".join(Page(text).text)
    elif draw is plots.report_figure:
        assert "<script" not in text
        ET.fromstring(text)
    else:
        assert not [line for line in text.splitlines() if line.startswith("<script")]
        assert "\n> **Warning:** \\<script\\>" in text


def test_the_svg_file_is_well_formed_and_says_the_same_every_time():
    text = plots.report_figure(example_report())
    root = ET.fromstring(text)
    assert root.tag.endswith("svg")
    assert "#0a0" not in text
    assert "var(--" not in text
    assert plots.report_figure(example_report()) == text


def test_names_are_kept_apart_in_the_distance_and_the_order():
    placed = plots.keep_apart([1.0, 1.1, 1.2, 5.0, 5.0, 9.0], 0.5)
    gaps = [b - a for a, b in itertools.pairwise(placed)]
    assert min(gaps) >= 0.5 - 1e-9
    assert placed[-1] == 9.0
    assert plots.keep_apart([1.0, 2.0], 0.5) == [1.0, 2.0]


def test_all_files_are_written_and_drawn_again_the_same(tmp_path):
    files = write_report(example_report(), tmp_path / "new" / "folder")
    assert [file.name for file in files] == [
        "report.json", "report.md", "report.html", "accuracy.svg",
    ]  # fmt: skip
    again = draw_report(read_report(files[0]), tmp_path)
    for file in again:
        assert file.read_text() == (files[0].parent / file.name).read_text()


def test_a_write_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_text(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match="space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_report(example_report(), tmp_path / "out")


def test_a_report_without_val_images_says_where_settings_were_chosen():
    report = example_report()
    said = "No val images: settings were chosen by cross-validation within the shots."
    chosen = {"split": "train", "rule": "shots of the support held out in turn, 2 of 2 folds"}
    rows = tuple(dataclasses.replace(row, selection=chosen) for row in report.rows)
    without = dataclasses.replace(report, rows=rows)
    for text in (report_to_markdown(without), report_to_html(without)):
        assert said in text
    assert said not in report_to_markdown(report)
    asked = dataclasses.replace(without, settings={**without.settings, "select": "shots"})
    assert said not in report_to_markdown(asked)
