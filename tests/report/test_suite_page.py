"""suite.html from suite.json alone."""

import json
import re

import pytest
from example_suite import METHODS, example_suite

from fsclip_jax.cli.report import main
from fsclip_jax.errors import UserError
from fsclip_jax.report.metrics import number_parts
from fsclip_jax.report.rows import Metric
from fsclip_jax.report.suite import read_suite, suite_from_json
from fsclip_jax.report.suite_html import suite_to_html
from fsclip_jax.report.suite_markdown import suite_to_markdown
from fsclip_jax.report.tables import near_best

NASTY = '<script>alert("x")</script>'


def drawn(**fields):
    return suite_to_html(suite_from_json(json.dumps(example_suite(**fields))))


@pytest.fixture(scope="module")
def page():
    return drawn()


def test_a_suite_of_the_published_size_is_small():
    data = tuple(f"data set {i}" for i in range(11))
    methods = ("zero_shot", "meta_adapter", *(f"method_{i}" for i in range(10)))
    text = drawn(data=data, methods=methods, shots=(1, 2, 4, 8, 16))
    assert len(text.encode()) < 5e6 / 10
    assert text.count("<svg ") == 12
    # The averages, five numbers of shots, and what else was measured, averaged.
    assert text.count("<tr>") == 6 * 13 + 5 * 12 + 1
    assert not re.search(r"DejaVu|<style type", text)  # no letters as shapes


def test_the_page_needs_nothing_but_itself(page):
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!#)', page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_every_number_of_the_suite_is_on_the_page(page):
    tree = example_suite()
    for cell in tree["cells"]:
        accuracy = cell["rows"][0]["metrics"]["accuracy"]
        text, half = number_parts(accuracy["mean"], accuracy["ci95"])
        assert f'title="±{half}">{text}</td>' in page
    for row in tree["means"][0]["rows"]:
        mean = row["metrics"]["accuracy"]
        text, half = number_parts(mean["mean"], mean["ci95"])
        assert f'{text} <span class="pm">±{half}</span>' in page
    assert "Averaged over 3 data sets, with 16 labelled images per class, " in page


def test_names_are_escaped_wherever_they_stand():
    text = drawn(data=(NASTY, "b"), methods=("zero_shot", NASTY))
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_one_data_set_and_missing_cells_are_drawn():
    tree = example_suite(data=("emoji",))
    assert "Average" not in suite_to_html(suite_from_json(json.dumps(tree)))
    tree = example_suite()
    lost = tree["cells"][0] | {"rows": [], "status": "failed", "reason": f"no {NASTY}"}
    tree["cells"][0], tree["means"][0]["rows"] = lost, tree["means"][0]["rows"][1:]
    text = suite_to_html(suite_from_json(json.dumps(tree)))
    assert "Without a number" in text
    assert "zero_shot, 1 shots, emoji, mini" in text
    tree["means"] = []
    assert "<svg" in suite_to_html(suite_from_json(json.dumps(tree)))


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"kind": "suite"}', '{"kind": "suite", "schema": 1}', "9" * 5000,
        '{"kind": "suite", "schema": 1, "cells": []}', '{"kind": "suite", "schema": 3}',
        '{"kind": "suite", "schema": 1, "cells": [3]}', "[" * 100_000,
        '{"kind": "suite", "schema": 1, "cells": [{"data": 1, "backbone": 2, "rows": [{}]}]}',
    ],
)  # fmt: skip
def test_a_damaged_suite_is_told_in_one_line(tmp_path, text):
    (tmp_path / "suite.json").write_text(text)
    with pytest.raises(UserError, match=r"^[^\n]*cannot be read[^\n]*$"):
        read_suite(tmp_path)


def test_a_damaged_part_is_told_or_drawn():
    few = {"data": ("a", "b"), "methods": METHODS[:2], "shots": (2,)}
    tree = example_suite(**few)
    for name in tree:
        for value in (None, 3, "x", [], {}, [3], {"a": 1}):
            try:
                suite = suite_from_json(json.dumps(tree | {name: value}))
            except UserError as error:
                assert "\n" not in str(error)  # noqa: PT017 (either is right)
                continue
            assert "</html>" in suite_to_html(suite)
            assert suite_to_markdown(suite).startswith("# ")


def test_there_is_no_suite(tmp_path):
    with pytest.raises(UserError, match="no suite at"):
        read_suite(tmp_path)


def test_report_draws_a_suite_again(tmp_path, capsys):
    (tmp_path / "suite.json").write_text(json.dumps(example_suite(data=("a",), shots=(2,))))
    assert main([str(tmp_path)]) == 0
    assert "wrote suite.md, suite.html" in capsys.readouterr().out
    first = {name: (tmp_path / name).read_text() for name in ("suite.html", "suite.md")}
    assert main([str(tmp_path / "suite.json"), "--out", str(tmp_path / "other")]) == 0
    assert {name: (tmp_path / "other" / name).read_text() for name in first} == first


def test_near_best_judges_by_the_paired_difference():
    def of(*values):
        return Metric(sum(values) / len(values), 5.0, tuple(map(float, values)))

    luck = {"best": of(60, 70, 80), "close": of(59, 71, 79), "behind": of(58, 68, 78)}
    assert near_best(luck, frozenset({"best"})) == {"close"}
    luck["just beyond"] = of(59, 68.5, 78)  # by 1.5 ±1.24
    assert near_best(luck | {"other draws": of(60, 70)}, frozenset({"best"})) == {"close"}
    assert not near_best({"best": of(60), "close": of(59)}, frozenset({"best"}))
    assert not near_best(luck, frozenset())
