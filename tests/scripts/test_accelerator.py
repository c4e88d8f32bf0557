"""The one program that measures a device, at sizes that say nothing of it."""

import json
import sys

import accelerator
import pytest
from accelerator_rows import GROUPS
from ceilings import floor
from meta_adapter_step import work

QUICK = ["meta_steps", "sampler", "methods", "tip_search"]


def run(monkeypatch, capsys, out, *words):
    command = ["accelerator.py", "--small", "--out", str(out), *words]
    monkeypatch.setattr(sys, "argv", command)
    accelerator.main()
    (place,) = out.glob("accelerator-*.json")
    table = place.with_name(place.name.replace(".json", ".md")).read_text()
    return place, json.loads(place.read_text()), table, capsys.readouterr().out.splitlines()


def test_without_pytorch_there_are_times_and_no_ratios(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    first, found, table, said = run(monkeypatch, capsys, tmp_path, "--rows", "towers", *QUICK)
    rows = {row["name"]: row for row in found["rows"]}
    for name in ("copy", "encode mini, 2", "gda predict", "tip_adapter search"):
        assert rows[name]["seconds"] > 0
    for name in ("encode mini, 2", "meta_adapter step, 8, bfloat16", "tip_adapter search"):
        assert rows[name]["share"] > 0
        assert rows[name]["bound"] in ("matrix", "memory")
    assert not [row for row in found["rows"] if row["note"].startswith("left out")]
    only = [row["name"] for row in found["rows"] if row["ratio"] is not None]
    assert only == ["sampler, 5-way"]  # against NumPy
    assert said[-1].startswith("ratio ")
    assert "earlier over now" not in table

    earlier = tmp_path / "earlier.json"
    for row in found["rows"]:
        row["seconds"] = 1e3 if row["name"] == "copy" else None
    earlier.write_text(json.dumps(found))
    first.unlink()
    words = ["--rows", "sampler", "--before", str(earlier), "--minutes", "0"]
    _, _, table, _ = run(monkeypatch, capsys, tmp_path / "again", *words)
    (line,) = (line for line in table.splitlines() if line.startswith("| copy |"))
    assert float(line.split("|")[-2]) > 1e3
    assert "| sampler |" in table
    assert "left out: no time was left" in table


@pytest.mark.slow
def test_every_row_is_there_with_pytorch(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    _, found, table, said = run(monkeypatch, capsys, tmp_path)
    rows = {row["name"]: row for row in found["rows"]}
    assert not [row for row in found["rows"] if row["note"].startswith("left out")]
    for name in (
        "meta_adapter step, 8, float32",
        "gda fit",
        "tip_adapter search",
        "cache votes, 8",
    ):
        assert rows[name]["ratio"] > 0
        assert rows[name]["spread"] >= 0
    assert rows["quickstart, evaluated"]["value"] == "0.000 points apart"
    assert rows["JPEG to bank"]["note"] in (
        "the tower waits for the files",
        "the files for the tower",
    )
    assert float(said[-1].removeprefix("ratio ")) > 0
    assert table.count("\n| ") == len(rows) + 1


def test_a_part_that_fails_costs_itself(monkeypatch):
    def broken(*_):
        raise ValueError("no such thing")
        yield

    monkeypatch.setitem(GROUPS, "towers", broken)
    _, rows = accelerator.measure(accelerator.SMALL, ["towers"], 1)
    assert rows[-1].note == "left out: ValueError: no such thing"
    assert len(rows) == 4


def test_the_floor_is_the_sum_and_names_the_larger_part():
    assert floor(1e9, 1e6, product=1e12, copy=1e9) == (pytest.approx(2e-3), "memory")
    assert floor(3e9, 1e6, product=1e12, copy=1e9) == (pytest.approx(4e-3), "matrix")
    # 10 W D^2 + 8 W S D + 4 B W D; the shots twice, the text three times, AdamW's state.
    assert work(3, 2, 5, 7) == (750 + 240 + 420, 3 * 5 * 7 * 4 + 25 * 19 * 4)
