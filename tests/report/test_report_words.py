"""How numbers, methods and data are written wherever a person reads them."""

import dataclasses
import io
import re

import pytest
from example_report import example_report
from rich.console import Console

from fsclip_jax.adapters.catalog import ADAPTERS
from fsclip_jax.report.html import report_to_html
from fsclip_jax.report.markdown import report_to_markdown
from fsclip_jax.report.metrics import with_interval
from fsclip_jax.report.names import counted_title, method_title
from fsclip_jax.report.plots import report_figure
from fsclip_jax.report.sentences import headline, title
from fsclip_jax.report.tables import split_phrase, tables
from fsclip_jax.report.terminal import print_report


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (61.3456, 0.4, "61.3 ±0.4"),
        (61.3456, 0.05, "61.35 ±0.05"),
        (61.3456, 0.0042, "61.346 ±0.004"),
        (52.07, 1.17, "52.1 ±1.2"),
        (52.07, 2.85, "52 ±3"),
        (52.07, 0.96, "52.1 ±1.0"),
        (52.07, 0.196, "52.07 ±0.20"),
        (52.07, 12.3, "52 ±12"),
        (28.85, 0.0, "28.85 ±0"),
        (28.85, 1e-9, "28.85 ±0"),
        (28.85, None, "28.85"),
        (28.85, float("nan"), "28.85"),
        (12345.6, 210.0, "12,346 ±210"),
        (-0.04, 0.3, "0.0 ±0.3"),
    ],
)
def test_digits_follow_the_interval(mean, half, text):
    assert with_interval(mean, half) == text


def test_the_sign_of_a_difference_stays_unless_nothing_is_left_of_it():
    assert with_interval(4.0, 0.72, sign=True) == "+4.0 ±0.7"
    assert with_interval(-4.0, 0.72, sign=True) == "-4.0 ±0.7"
    assert with_interval(-0.04, 0.72, sign=True) == "+0.0 ±0.7"


def test_every_method_has_a_name_of_its_own():
    names = {method: method_title(method) for method in ADAPTERS}
    assert len(set(names.values())) == len(names)
    assert not [name for name in names.values() if "_" in name or name[0].islower()]
    assert (names["tip_adapter_f"], names["lp_plus_plus"]) == ("Tip-Adapter-F", "LP++")
    assert method_title("meta_adapter_untrained") == "Meta-Adapter, untrained"
    assert method_title("tip_adapter_f_as_published") == "Tip-Adapter-F, as published"
    assert method_title("<b>_x") == "<b>_x"
    assert method_title("_untrained") == "_untrained"


def test_people_read_names_and_the_facts_tell_the_ids():
    report = example_report()
    terminal = io.StringIO()
    print_report(report, Console(file=terminal, width=200))
    svg = report_figure(dataclasses.replace(report, settings={}))
    for text in (terminal.getvalue(), report_to_markdown(report), report_to_html(report)):
        assert "Meta-Adapter, untrained" in text
        assert "13.00 ±0" in text.replace(' <span class="pm">', " ")
        bare = re.sub(r"\(\w+\)|title=\"\w+\"", "", text)
        assert not re.search(r"\b(text_prototype|meta_adapter)\b", bare.split("Command")[0])
    assert "Meta-Adapter (meta_adapter)" in report_to_html(report)
    assert "meta_adapter" not in svg


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"title": "Caltech-101", "spec": "coop:caltech101@/data"}, "Caltech-101"),
        ({"title": "bank:banks/pets", "spec": "bank:banks/pets"}, "pets"),
        ({"spec": "folder:photos/holiday pictures/"}, "holiday pictures"),
        ({"spec": "emoji"}, "Emoji"),
        ({"spec": "emoji:food"}, "Emoji: food"),
        ({"spec": "hf:somebody/birds@main"}, "birds"),
    ],
)
def test_titles_speak_in_new_and_old_reports(data, name):
    report = example_report()
    data = {**data, "n_classes": 100, "n_query": 9}
    assert title(dataclasses.replace(report, data=data)) == (
        f"Few-shot accuracy on {name}, 100 classes"
    )
    assert counted_title({**data, "n_classes": 1}) == f"{name}, 1 class"


def test_a_page_of_several_data_sets_names_each():
    report = example_report()
    targets = [{"name": "novel", "title": "Food-101", "spec": "coop:food101@x", "n_classes": 101}]
    data = {**report.data, "targets": targets}
    report = dataclasses.replace(report, data=data)
    assert tables(report)[1].title == "Food-101, 101 classes"
    assert "Meta-Adapter is ahead on Food-101: " in headline(report)
    for damaged in (3, [3], [{}], {"a": 1}):
        broken = dataclasses.replace(report, data={**data, "targets": damaged})
        assert tables(broken)[1].title == "Novel classes"


def test_all_classes_are_called_so():
    assert split_phrase("test") == "all classes"
    rows = tuple(
        dataclasses.replace(row, split="test")
        for row in example_report().rows
        if row.split == "base"
    )
    text = report_to_html(dataclasses.replace(example_report(), rows=rows))
    assert "Accuracy on all classes, 4 shots, against cost" in text
    assert "the all classes" not in text


def test_methods_that_are_level_are_ahead_together():
    level = {"zero_shot": (0.0, 0.0), "ridge": (1.0, 1.0), "gda": (1.0, 1.0)}
    line = headline(example_report(methods=level))
    assert "Ridge and GDA are ahead on the novel classes" in line
