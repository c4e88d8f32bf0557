"""`fsclip bank` and the flags of `fsclip extract`."""

import subprocess
import sys
import time

import numpy as np
import pytest

from fsclip_jax.cli.main import main


@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "f.npz"
    rng = np.random.default_rng(0)
    np.savez(
        path,
        features=rng.normal(size=(9, 4)).astype(np.float32),
        labels=np.arange(9) % 3,
        class_names=np.array(["cat", "dog [wild]", "cow"]),
        text_features=np.eye(3, 4, dtype=np.float32),
    )
    return path


def test_import_then_show(npz, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = str(tmp_path / "bank")
    flags = ["--features", str(npz), "--out", out, "--logit-scale", "30", "--backbone-id", "mine"]
    assert main(["bank", "import", *flags]) == 0
    said = capsys.readouterr()
    assert "9 images, 1 view(s), 3 classes, dim 4" in said.out
    assert "note: no split in the file" in said.err
    assert main(["bank", "show", out, "--verify"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines()[1:])) <= 80
    starts = {
        line.index(word)
        for line in shown.splitlines()
        for word in ("mine", "9 ", "float16")
        if line.startswith(("backbone", "images")) and word in line
    }
    assert len(starts) == 1, "values stand below one another"
    for word in ("mine", "cat, dog [wild], cow", "split train", "30", "float16", "every sha256"):
        assert word in shown


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["bank", "shwo"], "did you mean show"),
        (["bank", "show", "nowhere"], "there is no bank at nowhere"),
        (["bank", "show"], "fsclip bank show"),
        (["bank", "import", "--out", "x"], "--features"),
        (["bank", "import", "--features", "no.npz", "--out", "x"], "there is no file no.npz"),
        (["bank", "import", "--feature", "no.npz"], "did you mean --features"),
        (["extract", "--data", "bank:x", "--out", "y"], "is a bank already"),
        (["extract", "--data", "emoji", "--out", "y", "--views", "0"], "--views is 0"),
        (["extract", "--data", "emoji", "--out", "y", "--dtype", "int8"], "dtype"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(words, line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("words", [["extract"], ["bank", "import"], ["bank", "show"], ["bank"]])
def test_help_loads_nothing_heavy(words):
    code = f"""
import sys
from fsclip_jax.cli.main import main
code = main({words} + ["--help"])
heavy = {{"jax", "flax", "transformers", "tensorflow_datasets"}} & set(sys.modules)
sys.exit(f"{{code}} {{heavy}}" if code or heavy else 0)
"""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=30)
    assert time.monotonic() - began < 10  # usually a third of a second; this machine is shared
