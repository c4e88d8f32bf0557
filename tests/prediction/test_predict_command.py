import csv
import os

import jax
import numpy as np
import pytest
from emoji_folders import write_emoji
from killing import kills_of

from fsclip_jax.adapters.catalog import get_adapter
from fsclip_jax.cli.main import main
from fsclip_jax.data.folder import list_pictures
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.label_spaces import label_spaces
from fsclip_jax.evaluation.prepare import prepare
from fsclip_jax.features.extract import bank_for
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.fitting.fitted import fit_and_predict
from fsclip_jax.fitting.methods import Method
from fsclip_jax.fitting.selection import Choice
from fsclip_jax.prediction.config import FolderFit
from fsclip_jax.prediction.run import fit_folder

CLASSES = 12


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_emoji(tmp_path_factory.mktemp("emoji"), CLASSES)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FSCLIP_CACHE", str(tmp_path_factory.getbasetemp() / "predict-cache"))


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def predict(pictures, out, *flags):
    places = ["--support", str(pictures / "train"), "--images", str(pictures / "test")]
    return main(["predict", *places, "--out", str(out), *flags])


@pytest.mark.parametrize("method", ["prototype", "linear_probe"])
def test_predictions_are_those_of_an_evaluation(pictures, tmp_path, method):
    out = tmp_path / "out.csv"
    assert predict(pictures, out, "--method", method, "--no-calibrate", "--top", "3") == 0
    ours = {row["image"]: row for row in table(out)}

    stored = bank_for(f"folder:{pictures}")
    shots = int(np.bincount(stored.labels[stored.splits == 0]).max())
    config = EvalConfig(protocol="full_way", shots=(shots,), seeds=1, select="none")
    (space,) = label_spaces(config, CLASSES)
    # Plain data must have so many shots in every class; the emoji have families to tell.
    stored.__dict__["domains"] = np.arange(len(stored.labels), dtype=np.int32)
    setting = prepare(config, stored, space, shots, False)
    adapter = get_adapter(method)
    start = adapter.init(jax.random.key(0), stored.dim)
    chosen, choice = Method(method, adapter, start), Choice(start, False, {})
    asked = fit_and_predict(Engine(), chosen, choice, setting.draws.task, setting.queries)
    theirs = asked.predictions["test"]

    keys = [key for key, split in zip(stored.keys, stored.splits, strict=True) if split == 2]
    assert len(keys) == len(ours)
    labels = [stored.class_names[place] for place in theirs.predicted[0]]
    for key, label, confidence in zip(keys, labels, theirs.confidence[0], strict=True):
        row = ours[str(pictures / key)]
        assert float(row["probability"]) == pytest.approx(confidence, abs=2e-3)
        if float(row["probability_1"]) - float(row["probability_2"]) > 2e-3:
            assert row["label"] == label


def test_a_support_of_few_shots_is_spread_over_the_files(pictures):
    every = fit_folder(pictures / "train", FolderFit(method="prototype", calibrate=False))
    few = fit_folder(pictures / "train", FolderFit(method="prototype", calibrate=False, shots=1))
    whole = every.bank
    first = [int(np.flatnonzero(whole.labels == label)[0]) for label in range(CLASSES)]
    np.testing.assert_allclose(
        few.classifier.fitted.state["weights"][0], whole.features[0, first], atol=1e-6
    )


def test_what_a_user_gets_wrong_is_one_line(pictures, tmp_path, capsys):
    out = tmp_path / "out.csv"
    wrong = {
        "--unknown is 2.0; give a probability": ("--unknown", "2"),
        "--top is 0; give 1 or more": ("--top", "0"),
        "shots is 0; give 1 or more": ("--shots", "0"),
        "is meta-trained once before it is used: give --checkpoint": ("--method", "meta_adapter"),
        "no checkpoint at": ("--checkpoint", str(tmp_path / "none")),
        "coop: it needs words of the images, which a folder": ("--method", "coop"),
    }
    for says, flags in wrong.items():
        assert predict(pictures, out, *flags) == 2
        told = capsys.readouterr().err.strip().splitlines()
        assert says in told[-1], told
        assert not out.exists()
    assert main(["predict", "--support", str(pictures / "train"), "--images", "none.png"]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))


def test_unknown_and_unreadable_pictures(pictures, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"nothing")
    good = list_pictures([pictures / "test"])[0]
    out = tmp_path / "out.csv"
    places = ["--support", str(pictures / "train"), "--images", good, str(tmp_path / "bad.png")]
    code = main(["predict", *places, "--out", str(out), "--unknown", "1", "--top", "99"])
    told = capsys.readouterr()
    assert code == 0
    (row,) = table(out)
    assert row["label"] == "unknown"
    assert len(row) == 3 + 2 * CLASSES
    assert "1 predictions, 1 unknown, 1 unreadable" in told.out
    assert "bad.png" in told.err


@pytest.mark.slow
@pytest.mark.kills
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL and fork are POSIX")
def test_killed_again_and_again_it_writes_the_same_table(pictures, tmp_path, kills):
    out, whole = tmp_path / "out.csv", tmp_path / "whole.csv"
    assert predict(pictures, whole, "--method", "prototype") == 0
    words = ["predict", "--support", str(pictures / "train"), "--images", str(pictures / "test")]
    words += ["--out", str(out), "--method", "prototype"]
    compiled = str(tmp_path / "compiled")
    lines = kills_of("predict_child.py", kills, out, *words, FSCLIP_COMPILE_CACHE=compiled)
    rows = [int(line[1]) for line in lines]
    assert len(rows) == kills
    assert len(set(rows)) >= min(6, kills - 1), rows  # it was met in many states
    tables = sorted(tmp_path.glob("table-*.csv"))
    assert len(tables) >= (2 if kills > 5 else 1)
    assert all(found.read_bytes() == whole.read_bytes() for found in tables)
