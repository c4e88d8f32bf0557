"""Many comparisons from one configuration: cells, what is done already, failures, the table."""

import dataclasses
import errno
import fcntl
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from recomputed import agree, check_report
from synthetic_bank import synthetic_bank

from fsclip_jax.cli import suite as cli_suite
from fsclip_jax.cli.main import main
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.predictions_file import read_predictions
from fsclip_jax.report.metrics import number_parts
from fsclip_jax.report.names import method_title
from fsclip_jax.suite import run as run_module
from fsclip_jax.suite.cells import cell_identity, cells_of, finished
from fsclip_jax.suite.config import SuiteConfig

METHODS = ("zero_shot", "prototype")


@pytest.fixture(scope="module")
def banks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("banks")
    for seed, name in enumerate(("cats", "dogs")):
        synthetic_bank(folder / name, seed=seed, spec=name)
    return folder


def config(banks, out, **fields):
    data = tuple(f"bank:{banks / name}" for name in ("cats", "dogs"))
    return SuiteConfig(**{"data": data, "methods": METHODS, "shots": (1, 2), "out": out} | fields)


@pytest.fixture(scope="module")
def made(banks, tmp_path_factory):
    out = tmp_path_factory.mktemp("suite")
    assert cli_suite.run(config(banks, out), "none") == 0
    return out


def contents(folder):
    return {file: file.read_bytes() for file in sorted((folder / "cells").rglob("*.*"))}


def test_every_number_follows_from_the_answers_of_the_cells(made):
    tree = json.loads((made / "suite.json").read_text())
    assert len(tree["cells"]) == 8
    found = {}
    for cell in tree["cells"]:
        assert cell["status"] == "done"
        report = json.loads((made / cell["folder"] / "report.json").read_text())
        kept = read_predictions(made / cell["folder"])
        assert report["rows"] == cell["rows"]
        for row in cell["rows"]:
            right = (
                kept.find(row["method"], row["shots"], "test").predicted == kept.groups[0].labels
            )
            place = row["method"], row["shots"], cell["data"]
            found[place] = 100 * right.mean(1)
            agree(row["metrics"]["accuracy"], found[place])
        if cell["method"] == "zero_shot":
            check_report(report, kept)
    (means,) = tree["means"]
    assert len(means["rows"]) == 4
    for mean in means["rows"]:
        place = mean["method"], mean["shots"]
        agree(mean["metrics"]["accuracy"], (found[*place, "cats"] + found[*place, "dogs"]) / 2)
        assert mean["metrics"].keys() == {
            "accuracy", "class_mean_accuracy", "calibration_error", "nll",
        }  # fmt: skip


def test_the_table_has_methods_by_data_sets_and_the_average(made):
    text = (made / "suite.md").read_text()
    tree = json.loads((made / "suite.json").read_text())
    lines = text[text.index("2 shots\n") :].splitlines()
    assert lines[2] == "| method | cats | dogs | average |"
    cells = {(c["data"], c["method"], c["shots"]): c["rows"][0] for c in tree["cells"]}
    rows = tree["means"][0]["rows"]
    accuracy = {(m["method"], m["shots"]): m["metrics"]["accuracy"] for m in rows}
    means = {place: each["mean"] for place, each in accuracy.items()}

    def shown(each):
        return number_parts(each["mean"], each["ci95"])[0]

    for line, method in zip(lines[4:6], METHODS, strict=True):
        columns = [part.strip().strip("*`") for part in line.strip("|").split("|")]
        numbers = [cells[data, method, 2]["metrics"]["accuracy"] for data in ("cats", "dogs")]
        assert columns == [method_title(method), *map(shown, [*numbers, accuracy[method, 2]])]
    best = max(METHODS, key=lambda method: means[method, 2])
    bold = next(line for line in lines if f"**{shown(accuracy[best, 2])}**" in line)
    assert bold.startswith(f"| {method_title(best)} ")
    assert "Average over 2 data sets, by shots" in text


def test_what_is_done_is_not_done_again(banks, made, monkeypatch, capsys):
    before, asked = contents(made), []
    evaluate = run_module.evaluate_bank

    def spy(config, *args, **rest):
        asked.append((config.methods, config.shots))
        return evaluate(config, *args, **rest)

    monkeypatch.setattr(run_module, "evaluate_bank", spy)
    assert cli_suite.run(config(banks, made), "none") == 0
    assert not asked
    assert "8 done (8 by an earlier run)" in capsys.readouterr().out
    assert contents(made) == before
    lost = made / "cells/dogs/mini/prototype/2_shots"
    whole = (lost / "report.json").read_text()
    (lost / "report.json").write_text(whole[:-100])  # as no kill leaves it: damaged by hand
    assert cli_suite.run(config(banks, made), "none") == 0
    assert asked == [(("prototype",), (2,))]
    after = contents(made)
    assert {f for f in before if before[f] != after[f]} <= {lost / "report.json"}
    old, new = json.loads(whole), json.loads((lost / "report.json").read_text())
    assert old["settings"] == new["settings"]  # with the sum of the predictions


def test_a_suite_of_an_earlier_version_goes_on(tmp_path, monkeypatch):
    fields = {"data": ("emoji:food",), "methods": METHODS, "shots": (1,), "seeds": 2}
    cells = cells_of(SuiteConfig(**fields, select="none"))
    place = tmp_path / cells[0].place
    place.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("schema1_cell.json"), place / "report.json")
    monkeypatch.setattr(run_module, "bank_for", lambda *_, **__: 1 / 0)
    done = list(run_module.run_cells(cells, tmp_path))
    assert [each.before for each in done] == [True, False]
    assert done[0].report.rows[0].metrics["accuracy"].mean == pytest.approx(31.392405)


def test_another_configuration_is_another_cell(banks, made):
    (cell, *_) = cells_of(config(banks, made))
    assert finished(cell, made) is not None
    changes = {"seeds": 2, "select": "none", "views": 2, "class_split": "easy_hard"}
    for name, value in changes.items():
        (other, *_) = cells_of(config(banks, made, **{name: value}))
        assert cell_identity(other) != cell_identity(cell)
        assert finished(other, made) is None
    (other, *_) = cells_of(config(banks, made, methods=("zero_shot", "gda"), shots=(1, 16)))
    assert cell_identity(other) == cell_identity(cell)


def test_a_checkpoint_that_was_trained_anew_is_another_cell(banks, tmp_path):
    fields = {"methods": ("meta_adapter",), "checkpoint": (str(tmp_path / "{data}/meta"),)}
    cells = cells_of(config(banks, tmp_path, **fields))
    assert cells[0].config.checkpoint == (tmp_path / "cats/meta",)
    before = cell_identity(cells[0])
    (tmp_path / "cats/meta").mkdir(parents=True)
    (tmp_path / "cats/meta/adapter.safetensors").write_bytes(b"1")
    assert cell_identity(cells[0]) != before
    plain = cells_of(config(banks, tmp_path, checkpoint=fields["checkpoint"]))
    assert plain[0].config.checkpoint == ()


def test_what_fails_is_told_and_the_rest_goes_on(banks, tmp_path, monkeypatch, capsys):
    evaluate = run_module.evaluate_bank
    monkeypatch.setattr(run_module, "over_devices", map)  # else many begin before one has ended

    def brittle(config, *args, **rest):
        if config.methods == ("prototype",) and config.shots == (2,):
            raise RuntimeError("out of memory\nwhile allocating")
        return evaluate(config, *args, **rest)

    monkeypatch.setattr(run_module, "evaluate_bank", brittle)
    data = (f"bank:{banks / 'cats'}", f"bank:{banks / 'none'}")
    code = cli_suite.run(config(banks, tmp_path, data=data), "none")
    assert code == cli_suite.SOME_FAILED
    out = capsys.readouterr().out
    assert "failed: prototype, 2 shots, cats, mini: RuntimeError: out of memory while" in out
    assert "8 cells: 3 done (0 by an earlier run), 5 failed, 0 left out" in out
    begun = [line for line in out.splitlines() if line.startswith("cell ")]
    assert begun[0] == "cell 1 of 8: zero_shot, 1 shots, cats, mini"
    assert [line.split()[1] for line in begun] == [str(place) for place in range(1, 9)]
    assert all(re.match(r"cell \d of 8, \d+:\d\d left: ", line) for line in begun[1:])
    tree = json.loads((tmp_path / "suite.json").read_text())
    assert not any(means["rows"] for means in tree["means"])
    assert sum(cell["status"] == "failed" for cell in tree["cells"]) == 5
    text = (tmp_path / "suite.md").read_text()
    assert "## Without a number" in text
    assert "- failed: prototype, 2 shots, cats, mini: RuntimeError: out of memory" in text
    # Nothing of what failed is there, and a second run does it and nothing else.
    assert not list(tmp_path.glob("cells/cats/mini/prototype/2_shots/report.json"))
    monkeypatch.setattr(run_module, "evaluate_bank", evaluate)
    assert cli_suite.run(config(banks, tmp_path, data=data[:1]), "none") == 0
    out = capsys.readouterr().out
    assert "4 done (3 by an earlier run), 0 failed" in out
    assert "cell 4 of 4: prototype, 2 shots, cats, mini" in out


def test_all_leaves_out_what_does_not_apply(banks, tmp_path, monkeypatch, capsys):
    def nothing(config, *_, **__):
        raise UserError(f"{config.methods[0]} was asked for")

    monkeypatch.setattr(run_module, "evaluate_bank", nothing)
    fields = {"methods": ("all",), "shots": (1,)}
    cli_suite.run(config(banks, tmp_path, **fields), "none")
    out = capsys.readouterr().out
    assert "left out: timo, 1 shots, cats, mini: the bank does not hold every prompt" in out
    assert "coop" not in out
    cells = cells_of(config(banks, tmp_path, **fields))
    assert not any(cell.by_name for cell in cells)
    assert (
        cells_of(config(banks, tmp_path, methods=("all", "gda"), shots=(1,)))[-1].config.seeds == 3
    )


def test_names_of_columns_differ_and_root_is_replaced():
    suite = SuiteConfig(data=("coop:dtd@{root}", "hf:a/dtd", "emoji"), root=Path("/d"), shots=(1,))
    cells = cells_of(dataclasses.replace(suite, methods=("gda",), backbones=("a/b", "c/b")))
    assert [cell.config.data for cell in cells][::2] == ["coop:dtd@/d", "hf:a/dtd", "emoji"]
    places = [cell.place for cell in cells]
    assert len(set(places)) == 6
    assert places[2] == "cells/dtd_2/a_b/gda/1_shots"


def test_a_second_one_in_the_same_folder_is_refused(banks, tmp_path, capsys):
    suite = tmp_path / "suite.py"
    suite.write_text(
        "from fsclip_jax.suite.config import SuiteConfig\n"
        f"suite = SuiteConfig(data=('bank:{banks / 'cats'}',), methods=('zero_shot',), "
        "shots=(1,))\n"
    )
    out = tmp_path / "out"
    out.mkdir()
    for name, command in ((".suite.lock", "suite"), (".eval.lock", "eval")):
        handle = os.open(out / name, os.O_RDWR | os.O_CREAT)
        fcntl.flock(handle, fcntl.LOCK_EX)
        words = [str(suite)] if command == "suite" else ["--data", f"bank:{banks / 'cats'}"]
        assert main([command, *words, "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("fsclip: error: another run (process unknown)")
        assert "give another --out" in error
        assert error.count("\n") == 1
        os.close(handle)
    # The file that is left behind holds nobody up.
    assert main(["suite", str(suite), "--out", str(out)]) == 0


def test_a_full_disk_is_one_line_and_nothing_is_half_written(banks, tmp_path, monkeypatch, capsys):
    replace, written = Path.replace, []

    def full(self, target):
        written.append(target)
        if len(written) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match="no space left to write"):
        cli_suite.run(config(banks, tmp_path, data=(f"bank:{banks / 'cats'}",)), "none")
    # Two whole cells, and the predictions of a third whose report is not there.
    assert len(list(tmp_path.rglob("report.json"))) == 2
    assert len(list(tmp_path.rglob("predictions.safetensors"))) == 3
    assert not list(tmp_path.rglob("*.tmp"))
    monkeypatch.undo()
    capsys.readouterr()
    assert cli_suite.run(config(banks, tmp_path, data=(f"bank:{banks / 'cats'}",)), "none") == 0
    assert "4 done (2 by an earlier run)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"methods": ("tip",)}, "no method named 'tip'"),
        ({"data": ()}, "without data"),
        ({"shots": (0,)}, "each at least 1"),
        ({"seeds": 0}, "seeds is 0"),
    ],
)
def test_mistakes_are_told_before_anything_runs(banks, tmp_path, fields, says):
    with pytest.raises(UserError, match=says):
        cli_suite.run(config(banks, tmp_path / "out", **fields), "none")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["emoji_suite.py", "coop_suite.py"])
def test_the_suites_that_come_along_are_whole(file):
    from fsclip_jax.cli.parsing import load_config

    path = Path(__file__).parents[2] / "configs" / file
    cells = cells_of(load_config(path, "suite", SuiteConfig))
    if file == "coop_suite.py":
        assert len({cell.data for cell in cells}) == 11
        assert len({cell.shots for cell in cells}) == 5
    np.testing.assert_array_less(0, [cell.config.seeds for cell in cells])
