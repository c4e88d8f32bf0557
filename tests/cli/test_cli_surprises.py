"""What eval and train must not surprise with: folders, reports of other data, the next command."""

import sys
from pathlib import Path

import every_command
import pytest
from synthetic_bank import synthetic_bank

from fsclip_jax.cli.main import main
from fsclip_jax.cli.parsing import called_as, command_line
from fsclip_jax.errors import UserError
from fsclip_jax.report.rows import read_report, refuse_other_data

FULL_WAY = ["--protocol", "full_way", "--methods", "zero_shot", "prototype", "--seeds", "2"]
TRAIN = every_command.WORDS["train"].split()[5:]


@pytest.fixture
def banks(tmp_path, monkeypatch):
    """Two banks, in the folder that one is in."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("birds", "fish")):
        synthetic_bank(tmp_path / name, seed=seed, spec=f"folder:{name}")
    return tmp_path


def evaluate(bank, *flags):
    return main(["eval", "--data", f"bank:{bank}", *FULL_WAY, "--shots", "1", *flags])


def test_a_workdir_is_named_after_the_data_where_there_is_no_configuration(banks):
    assert evaluate("birds") == 0
    assert read_report(banks / "runs" / "birds").data["spec"] == "bank:birds"
    Path("mine.py").write_text(
        "from fsclip_jax.evaluation.config import EvalConfig\nevaluate = EvalConfig()\n"
    )
    assert main(["eval", "mine.py", "--data", "bank:birds", *FULL_WAY, "--shots", "1"]) == 0
    assert (banks / "runs" / "mine" / "report.json").is_file()
    assert main(["train", "--data", "bank:fish", *TRAIN]) == 0
    assert (banks / "runs" / "fish" / "adapter.safetensors").is_file()
    suite = ["suite", "--data", "bank:birds", "bank:fish", "--methods", "zero_shot", "--shots", "1"]
    assert main([*suite, "--seeds", "2"]) == 0
    assert (banks / "runs" / "birds_and_1_more_suite" / "suite.json").is_file()
    assert sorted(path.name for path in (banks / "runs").iterdir()) == (
        ["birds", "birds_and_1_more_suite", "fish", "mine"]
    )


def test_a_report_of_other_data_is_refused_and_stays(banks, capsys):
    assert evaluate("birds", "--out", "here") == 0
    before = {path: path.read_bytes() for path in (banks / "here").iterdir()}
    capsys.readouterr()
    assert evaluate("fish", "--out", "here") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "here holds a report on bank:birds, which one on bank:fish would replace" in err
    assert {path: path.read_bytes() for path in (banks / "here").iterdir()} == before
    # The same data, however its folder is written, gives a new report in place of the old one.
    assert evaluate(str(banks / "birds"), "--out", "here") == 0


@pytest.mark.parametrize(("name", "other"), [("detect", "eval"), ("segment", "eval")])
def test_no_command_replaces_a_report_of_other_data(name, other, files, tmp_path, capsys):
    out = tmp_path / "out"
    words = every_command.words_of(name, files, out)
    place = words[words.index("--out") + 1]
    assert main([*every_command.words_of(other, files, out)[:-1], place]) == 0
    before = (Path(place) / "report.json").read_bytes()
    capsys.readouterr()
    assert main(words) == 2
    assert "holds a report on bank:" in capsys.readouterr().err
    assert (Path(place) / "report.json").read_bytes() == before


def test_what_is_no_report_is_no_report_of_other_data(tmp_path):
    refuse_other_data(tmp_path, "emoji")
    (tmp_path / "report.json").write_text("{}")
    refuse_other_data(tmp_path, "emoji")


@pytest.mark.usefixtures("banks")
def test_an_adapter_of_other_data_is_told_in_a_line_above_the_table(capsys):
    assert main(["train", "--data", "bank:fish", *TRAIN]) == 0
    for bank, told in (("birds", True), ("fish", False)):
        capsys.readouterr()
        methods = ["--methods", "zero_shot", "meta_adapter"]
        assert evaluate(bank, *methods, "--checkpoint", "runs/fish") == 0
        lines = capsys.readouterr().out.splitlines()
        line = f"meta_adapter was trained on folder:fish, not on bank:{bank}"
        assert (line in lines) == told
        table = next(at for at, one in enumerate(lines) if one.startswith("method "))
        assert not told or lines.index(line) < table


@pytest.mark.parametrize(
    ("called", "command", "words"),
    [
        ("eval.py", "eval", "python eval.py"),
        ("train.py", "eval", "python eval.py"),
        ("../repo/train.py", "eval", "python ../repo/eval.py"),
        ("eval.py", "predict", "python -m fsclip_jax predict"),
        ("/lib/fsclip_jax/__main__.py", "eval", "python -m fsclip_jax eval"),
        ("/lib/fsclip_jax/cli/main.py", "eval", "python -m fsclip_jax eval"),
        ("some/bin/fsclip", "eval", "fsclip eval"),
        ("/usr/bin/notebook", "eval", "fsclip eval"),
    ],
)
def test_the_next_command_is_called_as_this_one(called, command, words, monkeypatch):
    monkeypatch.setattr(sys, "argv", [called, "--seeds", "3"])
    assert called_as(command) == words


@pytest.mark.parametrize(
    ("called", "line"),
    [
        (["/lib/fsclip_jax/__main__.py", "eval"], "python -m fsclip_jax eval"),
        (["train.py", "a b"], "python train.py 'a b'"),
        (["/bin/fsclip", "train"], "fsclip train"),
    ],
)
def test_a_report_names_the_command_as_it_was_called(called, line, monkeypatch):
    monkeypatch.setattr(sys, "argv", called)
    assert command_line() == line


@pytest.mark.usefixtures("banks")
@pytest.mark.parametrize("called", ["fsclip", "train.py", "fsclip_jax/__main__.py"])
def test_train_ends_with_the_command_that_compares(called, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [called])
    assert main(["train", "--data", "bank:fish", *TRAIN]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"next: {called_as('eval')} --data bank:fish --checkpoint runs/fish"
    capsys.readouterr()
    assert main(["train", "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: {called_as('train')} [CONFIG.py]")


def test_a_place_that_is_refused_is_a_user_error(banks):
    assert evaluate("birds", "--out", "here") == 0
    with pytest.raises(UserError, match="give another --out"):
        refuse_other_data(banks / "here", "emoji")
