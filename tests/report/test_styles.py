"""One colour, one meaning; axes and names of the changes class by class."""

import dataclasses
import itertools
import re

import pytest
from example_details import example_details
from example_report import METHODS, example_report

from fsclip_jax.adapters.catalog import ADAPTERS
from fsclip_jax.report.closer_look import bearable, skyline
from fsclip_jax.report.details import ClassChanges, Reliability
from fsclip_jax.report.html import report_to_html
from fsclip_jax.report.page import in_rows
from fsclip_jax.report.styles import DARK, LIGHT, SERIES_DARK, SERIES_LIGHT, styles


@pytest.mark.parametrize(("roles", "series"), [(LIGHT, SERIES_LIGHT), (DARK, SERIES_DARK)])
def test_no_method_has_the_colour_of_better_or_worse(roles, series):
    colours = [*series, roles["good"], roles["bad"], roles["quiet"]]
    assert len(set(colours)) == len(colours)
    for one, other in itertools.combinations(colours, 2):
        channels = ([int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (one, other))
        assert sum(abs(a - b) for a, b in zip(*channels, strict=True)) > 40, (one, other)


def groups(names, count):
    return [names[i : i + count] for i in range(0, len(names), count)]


@pytest.mark.parametrize("count", range(1, 9))
def test_methods_that_colours_can_tell_apart_have_one_each(count):
    for methods in groups(list(ADAPTERS), count):
        looks = styles(methods, methods[:1])
        assert len({look.colour for look in looks.values()}) == len(methods)
        assert not any(look.quiet for look in looks.values())
        assert looks[methods[0]].width > 2


def test_a_variant_is_dashed_in_the_colour_of_its_method():
    looks = styles(["gda", "attn_adapter", "attn_adapter_untrained", "gda_as_published"])
    assert looks["attn_adapter"].colour == looks["attn_adapter_untrained"].colour
    assert looks["gda"].colour == looks["gda_as_published"].colour != looks["attn_adapter"].colour
    dashes = [look.dashes for look in looks.values()]
    assert dashes == ["-", "-", "--", "-."]


def test_of_too_many_methods_the_leading_one_stands_out():
    looks = styles(list(ADAPTERS), ["proker"])
    coloured = [look.colour for look in looks.values() if not look.quiet]
    assert len(set(coloured)) == len(coloured)
    assert not looks["proker"].quiet
    assert looks["gda"].quiet


def test_what_is_marked_on_the_page_is_marked_in_ink():
    report = dataclasses.replace(example_report(), details=example_details(METHODS, cards=3))
    page = report_to_html(report)
    rules = dict(re.findall(r"([^{}]+)\{([^{}]*)\}", page.partition("</style>")[0]))
    for name, rule in rules.items():
        if re.search("best|tied|of-true|of-predicted|tile|strip|alert", name):
            assert not re.search("series|good|bad", rule), (name, rule)
    assert (
        "stroke:var(--series" not in page.partition('id="attention"')[2].partition("</section>")[0]
    )


def changes_of(count):
    names = tuple(f"class {i}" for i in range(count))
    change = tuple(80.0 - 120.0 * i / (count - 1) for i in range(count))
    return ClassChanges(names, count * (50.0,), {"mine": change})


@pytest.mark.parametrize(
    ("count", "columns"), [(2, 2), (24, 24), (25, 25), (313, 160), (1000, 160)]
)
def test_class_by_class_has_an_axis_and_names(count, columns):
    sky = skyline(changes_of(count), "mine")
    assert len(sky.columns) == columns
    assert [text for text, _ in sky.marks] == ["+80", "0", "\N{MINUS SIGN}40"]
    assert [at for _, at in sky.marks] == pytest.approx([100, 100 / 3, 0])
    assert (sky.first, sky.last) == ("class 0 +80", f"class {count - 1} \N{MINUS SIGN}40")
    assert sky.labelled == (count <= 24)
    zero = sky.marks[1][1]
    for each in sky.columns:
        end = each.low + (each.height if each.better else 0)
        assert (end >= zero - 1e-9) == each.better or each.height == 0
        assert "points" in each.title
    report = dataclasses.replace(
        example_report(),
        details=dataclasses.replace(example_details([]), changes=changes_of(count)),
    )
    page = report_to_html(report)
    assert ("point at one for its name" in page) == (count > 24)
    assert page.count('title="class ') == columns


def test_changes_are_shown_of_another_method_where_the_reference_is_the_best():
    look = dataclasses.replace(example_details(METHODS), method="zero_shot")
    page = report_to_html(dataclasses.replace(example_report(), details=look))
    assert "Helped most by Meta-Adapter, untrained" in page
    assert "The most frequent confusions of Zero-shot" in page


def test_bins_are_joined_until_each_bears_an_interval():
    few = Reliability((0.1, 0.3, 0.6, 0.9), (0.0, 0.5, 0.5, 1.0), (10, 30, 50, 200))
    joined = bearable(few, draws=2)
    assert joined.count == (90, 200)
    assert joined.confidence[0] == pytest.approx((0.1 * 10 + 0.3 * 30 + 0.6 * 50) / 90)
    assert joined.accuracy[0] == pytest.approx((0.5 * 30 + 0.5 * 50) / 90)
    assert bearable(Reliability((), (), ()), 3).count == ()
    assert bearable(few, draws=1).count == (40, 50, 200)


@pytest.mark.parametrize("most", [2, 3, 4, 8])
def test_rows_are_filled_and_keep_the_order(most):
    for count in range(30):
        rows = in_rows(range(count), most)
        assert [each for row in rows for each in row] == list(range(count))
        sizes = [len(row) for row in rows]
        assert not sizes or (max(sizes) <= most and max(sizes) - min(sizes) <= 1)
        assert 1 not in sizes or count in (1, 3) or most == 2
