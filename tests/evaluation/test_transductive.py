"""The transductive protocol: batches as asked for, rows that say what they saw, and no mixing."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsclip_jax.cli.main import main
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig, check_eval_config, read_batch
from fsclip_jax.evaluation.evaluate import evaluate_bank
from fsclip_jax.evaluation.transductive import draw_batches
from fsclip_jax.fitting.checkpoints import FeatureSpec
from fsclip_jax.fitting.methods import choose_methods
from fsclip_jax.suite.config import SuiteConfig

LABELS = np.repeat(np.arange(9), 13)


def run(bank, tmp_path, **changes):
    asked = {"methods": ("zero_shot", "gda"), "shots": (1, 2), "seeds": 2, "select": "none"}
    config = EvalConfig(protocol="transductive", **{**asked, **changes})
    return evaluate_bank(config, bank, tmp_path).report


@given(
    batch=st.sampled_from(["all", "stream:0.1", "stream:100", "stream:separate"]),
    size=st.integers(1, 40),
    seed=st.integers(0, 9),
)
@settings(max_examples=30, deadline=None)
def test_every_query_is_in_one_batch(batch, size, seed):
    place, mask = draw_batches(LABELS, read_batch(batch), size, 5, seed)
    assert sorted(place[mask]) == list(range(len(LABELS)))
    again, _ = draw_batches(LABELS, read_batch(batch), size, 5, seed)
    np.testing.assert_array_equal(place, again)


@given(low=st.integers(1, 9), more=st.integers(0, 9), size=st.integers(20, 60))
@settings(max_examples=30, deadline=None)
def test_few_classes_are_in_a_batch(low, more, size):
    place, mask = draw_batches(LABELS, read_batch(f"few:{low}-{low + more}"), size, 20, 0)
    assert place.shape == (20, size)
    for rows, there in zip(place, mask, strict=True):
        kept = rows[there]
        assert len(set(kept)) == len(kept) == min(size, there.sum())
        assert 1 <= len(set(LABELS[kept])) <= min(low + more, 9)
        if size >= 13 * (low + more):  # all of the queries of every class that was drawn
            assert low <= len(set(LABELS[kept])) or low > 9
            assert len(kept) == 13 * len(set(LABELS[kept]))


def test_the_smaller_the_concentration_the_more_a_class_comes_together():
    def neighbours_alike(batch):
        place, mask = draw_batches(LABELS, read_batch(batch), 13, 1, 0)
        labels = LABELS[place[mask]]
        return np.mean(labels[1:] == labels[:-1])

    shares = [neighbours_alike(f"stream:{rest}") for rest in ("100", "0.1", "separate")]
    assert shares[0] < shares[1] < shares[2]


def test_rows_say_what_they_saw_and_are_paired_with_what_they_refine(bank, tmp_path):
    report = run(bank, tmp_path)
    saw = {row.method: row.saw for row in report.rows}
    assert list(saw) == [
        name + refined
        for name in ("zero_shot", "gda")
        for refined in ("", "+transclip", "+stata", "+tda")
    ]
    assert saw["zero_shot"] == ()
    assert saw["zero_shot+tda"] == ("queries",)
    assert saw["gda+stata"] == ("shots", "queries")
    versus = {row.method: set(row.versus) for row in report.rows}
    assert versus["gda+stata"] == {"zero_shot", "gda"}
    assert any("saw the queries" in line for line in report.warning)


def test_alone_a_method_is_as_accurate_as_in_full_way(bank, tmp_path):
    plain = evaluate_bank(
        EvalConfig(methods=("zero_shot", "gda"), shots=(1, 2), seeds=2, select="none"),
        bank,
        tmp_path,
    ).report
    known = {(row.method, row.shots): row.metrics["accuracy"].per_seed for row in plain.rows}
    for row in run(bank, tmp_path, batch="stream:0.1", batch_size=7).rows:
        if "+" not in row.method:
            assert row.metrics["accuracy"].per_seed == pytest.approx(
                known[row.method, row.shots], abs=1e-4
            )


@pytest.mark.parametrize("batch", ["few:1", "few:2-3", "stream:separate"])
def test_other_batches_run(bank, tmp_path, batch):
    report = run(bank, tmp_path, batch=batch, batch_size=8, batches=3, shots=(1,))
    assert len(report.rows) == 8
    assert report.settings["batch"] == batch


@pytest.mark.parametrize(
    "batch",
    ["few", "few:0", "few:3-2", "few:x", "stream:", "stream:-1", "stream:0", "some", "few:"],
)
def test_a_batch_that_is_none_is_told(batch):
    with pytest.raises(UserError, match="few:K or few:A-B"):
        check_eval_config(EvalConfig(protocol="transductive", batch=batch))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"batch": "few:3"}, "--batch goes with the protocol transductive, not with full_way"),
        ({"refine": ("tda",)}, "--refine goes with"),
        ({"protocol": "transductive", "refine": ()}, "refine names nothing"),
        ({"protocol": "transductive", "look": "gda"}, "transductive keeps none"),
        ({"protocol": "transductive", "as_published": ("tip_adapter_f",)}, "does not go with"),
        ({"protocol": "transductive", "targets": ("x",)}, "targets go with"),
    ],
)
def test_what_does_not_go_together_is_told(changes, line):
    with pytest.raises(UserError, match=line):
        check_eval_config(EvalConfig(**changes))


def test_no_other_table_takes_them():
    with pytest.raises(UserError, match="give --protocol transductive --refine stata"):
        choose_methods(["zero_shot", "stata"], FeatureSpec(8))
    allowed = SuiteConfig.__annotations__["protocol"]
    assert "transductive" not in str(allowed)


def test_without_text_stata_is_refused(bank, tmp_path):
    plain = dataclasses.replace(bank, text_features=None)
    with pytest.raises(UserError, match=r"stata is anchored to text.*--refine transclip tda"):
        run(plain, tmp_path, methods=("prototype",))
    report = run(plain, tmp_path, methods=("prototype",), refine=("transclip", "tda"))
    assert {row.method for row in report.rows} == {
        "prototype",
        "prototype+transclip",
        "prototype+tda",
    }


def test_the_command_writes_its_page(bank, tmp_path, capsys):
    out = tmp_path / "run"
    line = f"eval --data bank:{bank.path} --protocol transductive --methods zero_shot --shots 1"
    flags = "--select none --refine tda --batch few:2 --batch-size 8 --batches 2"
    assert main([*line.split(), *flags.split(), "--workdir", str(out)]) == 0
    assert "Zero-shot + TDA (saw the queries)" in capsys.readouterr().out
    for page in ("report.md", "report.html"):
        assert "saw the queries" in (out / page).read_text()
    assert json.loads((out / "report.json").read_text())["protocol"] == "transductive"
