import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from example_report import example_report
from rich.console import Console
from synthetic_bank import synthetic_bank

from fsclip_jax.cli import eval as cli_eval
from fsclip_jax.cli.main import main
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.report.metrics import with_interval
from fsclip_jax.report.terminal import print_report
from fsclip_jax.report.write import write_report

ROOT = Path(__file__).parents[2]


def printed(report, width, **options):
    console = Console(width=width, file=io.StringIO(), **options)
    print_report(report, console)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("shots", "blocks"), [((1, 2, 4), 1), ((1, 2, 3, 4, 5), 1), ((1, 2, 3, 4, 5, 6, 7, 8), 2)]
)
def test_the_tables_fit_into_80_columns_and_hold_every_number(shots, blocks):
    report = example_report(shots=shots)
    text = printed(report, 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for row in report.rows:
        accuracy = row.metrics["accuracy"]
        assert with_interval(accuracy.mean, accuracy.ci95) in text
    assert text.count("Novel classes") == blocks


def test_user_strings_are_not_read_as_markup():
    report = example_report(methods={"zero_shot": (0.0, 0.0), "[red]x[/red]": (1.0, 1.0)})
    assert "[red]x[/red]" in printed(report, 80)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "bank"
    synthetic_bank(path)
    return path


def test_eval_writes_the_report_and_prints_the_table(bank, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = EvalConfig(
        data=f"bank:{bank}", methods=("zero_shot", "prototype"), shots=(1, 2), seeds=2
    )
    assert cli_eval.run(config, "mine") == 0
    folder = tmp_path / "runs" / "mine"
    names = {
        "report.json", "report.md", "report.html", "accuracy.svg", "predictions.safetensors",
    }  # fmt: skip
    assert {file.name for file in folder.iterdir()} == names
    tree = json.loads((folder / "report.json").read_text())
    assert [(row["method"], row["shots"]) for row in tree["rows"]] == [
        ("zero_shot", 1), ("zero_shot", 2), ("prototype", 1), ("prototype", 2),
    ]  # fmt: skip
    assert tree["data"]["spec"] == f"bank:{bank}"
    out, err = capsys.readouterr()
    assert "\x1b[" not in out + err
    assert "\nPrototype  " in out
    accuracies = [row["metrics"]["accuracy"] for row in tree["rows"]]
    means = [f"{one['mean']:.1f}" for one in accuracies]
    assert f"method 1 of 2, zero_shot: all {means[0]}, {means[1]} % at 1, 2 shots\n" in err
    assert f"method 2 of 2, prototype: all {means[2]}, {means[3]} % at 1, 2 shots\n" in err
    assert re.search(r"^evaluate 2/2 steps, \S+ steps/s$", err, re.MULTILINE)
    assert "method 2" not in out, "what is piped is the table"
    accuracy = accuracies[3]
    assert with_interval(accuracy["mean"], accuracy["ci95"]) in out


def test_eval_leaves_with_2_and_one_line(bank, tmp_path, capsys):
    args = ["eval", "--data", f"bank:{bank}", "--workdir", str(tmp_path), "--methods", "tip"]
    assert main(args) == 2
    error = capsys.readouterr().err
    assert error.startswith("fsclip: error: no method named 'tip'")
    assert error.count("\n") == 1
    assert main(["eval", "--data", f"bank:{tmp_path}/none"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_report_draws_the_pages_again(tmp_path, capsys):
    files = write_report(example_report(), tmp_path)
    before = {file.name: file.read_text() for file in files}
    for file in files[1:]:
        file.unlink()
    assert main(["report", str(tmp_path / "report.json")]) == 0
    assert "Meta-Adapter, untrained" in capsys.readouterr().out
    assert {file.name: file.read_text() for file in files} == before
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "there")]) == 0
    assert (tmp_path / "there" / "report.html").read_text() == before["report.html"]


def test_report_leaves_with_2_and_one_line(tmp_path, capsys):
    assert main(["report", str(tmp_path / "report.json")]) == 2
    (tmp_path / "report.json").write_text('{"schema": 1, "rows"')
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.parametrize("module", ["fsclip_jax.evaluation.config", "fsclip_jax.cli.report"])
def test_what_help_needs_is_light(module):
    code = (
        f"import {module}, sys; print({{'jax', 'flax', 'matplotlib', 'numpy'}} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "set()"
