"""Two processes share the methods of a comparison, and give the numbers of one."""

import json

import numpy as np
import pytest
from several import ends, start, start_two

from fsclip_jax.evaluation.results import Result
from fsclip_jax.evaluation.spread import packed, unpacked
from fsclip_jax.fitting.fitted import Predictions
from fsclip_jax.report.measured import Measured

METHODS = ["--methods", "zero_shot", "prototype", "ridge", "--shots", "1", "2", "--views", "1"]


def numbers(out):
    """The rows of a report, but for its times."""
    rows = json.loads((out / "report.json").read_text("utf-8"))["rows"]
    for row in rows:
        for timed in ("fit_seconds", "predict_us_per_query"):
            row["metrics"].pop(timed, None)
    return rows


def test_results_travel_bit_for_bit():
    numbers = {"accuracy": np.float32([1 / 3, np.nan]), "fit_ms": np.asarray(0.1)}
    answers = Predictions(*(np.arange(4, dtype=kind).reshape(2, 2) for kind in "Hff"))
    chosen = {"alpha": [0.1, np.float32(0.2)], "rule": "val images"}
    result = Result(Measured(numbers, chosen, ("test",)), answers)
    found = unpacked(packed({"novel": result, "base": result._replace(predictions=None)}))
    assert list(found) == ["novel", "base"]
    for name, array in numbers.items():
        got = found["novel"].measured.metrics[name]
        assert got.dtype == array.dtype
        assert got.tobytes() == array.tobytes()
    assert found["base"].predictions is None
    for one, other in zip(found["novel"].predictions, answers, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found["novel"].measured.saw == ("test",)
    assert found["novel"].measured.selection == {
        "alpha": [0.1, float(np.float32(0.2))],
        "rule": "val images",
    }


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(bank, tmp_path):
    words = ["--data", f"bank:{bank.path}", *METHODS, "--out"]
    codes, told = ends(start_two("eval", *words, tmp_path / "two"))
    assert codes == [0, 0], told
    assert told[1] == ("", ""), "process 0 says it for all"
    codes, told = ends([start("eval", *words, tmp_path / "one")])
    assert codes == [0], told
    assert numbers(tmp_path / "two") == numbers(tmp_path / "one")
    file = "predictions.safetensors"
    assert (tmp_path / "two" / file).read_bytes() == (tmp_path / "one" / file).read_bytes()
