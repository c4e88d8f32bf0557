"""The curves of trainings in a report: bounds, the page, and old reports without any."""

import dataclasses
import json

import pytest
from example_report import example_report

from fsclip_jax.cli.curves import curve_of, with_curves
from fsclip_jax.errors import UserError
from fsclip_jax.report.html import report_to_html
from fsclip_jax.report.rows import report_from_json, report_to_json
from fsclip_jax.report.training import MOST_POINTS, TrainingCurve

CURVE = TrainingCurve("meta_adapter", (10, 20), (2.0, 1.5), (40.0, 50.5), (0, 20), (30.0, 45.0))


def test_a_curve_is_stored_read_and_drawn():
    report = dataclasses.replace(example_report(), training=(CURVE,))
    again = report_from_json(report_to_json(report))
    assert again.training == (CURVE,)
    page = report_to_html(again)
    assert '<section id="training">' in page
    for number in ("Loss", "Accuracy"):
        assert f'aria-label="{number} of Meta-Adapter while it was trained"' in page


def test_a_report_without_curves_is_as_it_was():
    report = example_report()
    assert "training" not in json.loads(report_to_json(report))
    assert report_from_json(report_to_json(report)).training == ()
    assert '<section id="training">' not in report_to_html(report)


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ({"loss": [1.0]}, "one loss a step"),
        ({"val_step": [0]}, "one val accuracy a step"),
        ({"step": [20, 10]}, "must rise from 0"),
        ({"step": [-1, 10]}, "must rise from 0"),
        ({"accuracy": [40.0, 101.0]}, "must be 0 to 100"),
        ({"loss": [1.0, 1e300]}, "must be within 1e"),
        ({"loss": [1.0, None]}, "training"),
        (
            {name: list(range(MOST_POINTS + 1)) for name in ("step", "loss", "accuracy")},
            f"{MOST_POINTS} at most",
        ),
    ],
)
def test_a_spoilt_curve_is_refused_in_one_line(spoilt, said):
    tree = json.loads(report_to_json(dataclasses.replace(example_report(), training=(CURVE,))))
    tree["training"][0] |= spoilt
    with pytest.raises(UserError, match=said):
        report_from_json(json.dumps(tree))


def write_log(folder, *rows):
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_log_beside_a_checkpoint_is_its_curve(tmp_path):
    rows = [
        {"step": 0, "val_accuracy": 30.0},
        {"step": 10, "loss": 2.0, "accuracy": 40.0},
        {"step": 20, "loss": 1.5, "accuracy": 50.5, "val_accuracy": 45.0},
    ]
    write_log(tmp_path / "run", *rows)
    assert curve_of("meta_adapter", tmp_path / "run") == CURVE
    assert curve_of("meta_adapter", tmp_path / "run" / "adapter.safetensors") == CURVE
    described = ({"method": "meta_adapter", "path": str(tmp_path / "run")}, {"method": "other"})
    report = dataclasses.replace(example_report(), checkpoints=described)
    assert with_curves(report).training == (CURVE,)


def test_a_long_log_is_thinned_to_its_end(tmp_path):
    rows = ({"step": at, "loss": 1.0, "accuracy": 50.0} for at in range(1, 3 * MOST_POINTS))
    write_log(tmp_path / "run", *rows)
    curve = curve_of("ridge", tmp_path / "run")
    assert MOST_POINTS // 2 < len(curve.step) <= MOST_POINTS
    assert curve.step[-1] == 3 * MOST_POINTS - 1


def test_no_log_or_a_spoilt_one_costs_the_curve_alone(tmp_path):
    assert curve_of("ridge", tmp_path) is None
    write_log(tmp_path / "a", {"step": 5, "loss": 1.0, "accuracy": 500.0})
    assert curve_of("ridge", tmp_path / "a") is None
