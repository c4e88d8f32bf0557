"""A disk that fills up while predictions are written."""

import resource
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from emoji_folders import write_emoji

from fsclip_jax.cli.main import main
from fsclip_jax.errors import UserError
from fsclip_jax.prediction.formats import prediction_row
from fsclip_jax.prediction.table import PredictionTable, read_rows


@contextmanager
def largest_file(size):
    """Let no file grow beyond a size, as a quota or a full disk does."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def rows(count):
    chances = np.array([0.25, 0.75])
    return [prediction_row(f"{i}.png", chances, ["cat", "dog"], 2, 0.5) for i in range(count)]


@pytest.mark.parametrize("size", [0, 10, 75, 76, 100, 1000])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_full_disk_is_one_line_and_the_table_is_continued(tmp_path, size, ending):
    path, made = tmp_path / f"out.{ending}", {"a": 1}
    whole = tmp_path / f"whole.{ending}"
    with PredictionTable(whole, 2, made) as table:
        table.add(rows(60))
        table.finish()

    def write():
        with PredictionTable(path, 2, made) as table:
            left = [row for row in rows(60) if row[0] not in table.done]
            for low in range(0, len(left), 7):
                table.add(left[low : low + 7])
            table.finish()

    with largest_file(size), pytest.raises(UserError, match=r"^no space left to write [^\n]*$"):
        write()
    write()
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, whole.name]


def test_a_full_disk_while_parquet_is_added_to_loses_nothing(tmp_path):
    path, made = tmp_path / "out.parquet", {"a": 1}
    with PredictionTable(path, 2, made) as table:
        table.add(rows(60))
        table.finish()
        before = table.made_with
    listed, whole = list(read_rows(path)), path.read_bytes()

    def add():
        with PredictionTable(path, 2, made, made_before=before) as table:
            table.add(rows(61)[60:])
            table.finish()

    for size in (0, 1000, len(whole) - 1):
        with largest_file(size), pytest.raises(UserError, match="no space left to write"):
            add()
        assert path.read_bytes() == whole
    add()
    assert list(read_rows(path))[:-1] == listed
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_emoji(tmp_path_factory.mktemp("emoji"), 3)


@pytest.mark.slow
def test_the_command_says_so_and_goes_on_afterwards(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FSCLIP_CACHE", str(tmp_path / "cache"))
    words = ["predict", "--support", str(pictures / "train"), "--images", str(pictures)]
    words += ["--method", "prototype", "--out"]
    assert main([*words, str(tmp_path / "whole.csv")]) == 0
    capsys.readouterr()
    out = tmp_path / "out.csv"
    with largest_file(700):
        assert main([*words, str(out)]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert [line for line in told if "no space left to write" in line] == told[-1:]
    assert main([*words, str(out)]) == 0
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.slow
def test_of_two_commands_at_once_one_is_refused(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("FSCLIP_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out.csv"
    words = ["predict", "--support", str(pictures / "train"), "--images", str(pictures / "test")]
    command = [sys.executable, "-m", "fsclip_jax.cli.main", *words, "--method", "prototype"]
    runs = [
        subprocess.Popen([*command, "--out", out], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [run.communicate(timeout=200)[1] for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 2]
    refused = told[0] if runs[0].returncode else told[1]
    assert "is writing out.csv" in refused or "exists already" in refused
    assert len(refused.strip().splitlines()) == 1
    assert len(out.read_text().splitlines()) > 5
