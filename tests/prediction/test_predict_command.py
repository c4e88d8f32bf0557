import csv
import json
import os
import shutil

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
    setting = prepare(config, stored, space, False)
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
        "--unknown is 2.0; give auto, or a probability": ("--unknown", "2"),
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
    assert code == 1  # as the exported predictor's: a picture has no line
    (row,) = table(out)
    assert row["label"] == ""
    assert row["class_1"]
    assert len(row) == 3 + 2 * CLASSES + 1
    assert "1 predictions, 1 unknown, 1 unreadable" in told.out
    assert "x0a" not in told.out
    assert "bad.png" in told.err


@pytest.fixture(scope="module")
def planted(pictures, tmp_path_factory):
    """Labelled pictures of all but two classes; one stands twice, one in a wrong class too."""
    place = tmp_path_factory.mktemp("planted")
    shutil.copytree(pictures, place, dirs_exist_ok=True)
    classes = sorted(folder.name for folder in (place / "train").iterdir())
    for name in classes[-2:]:
        shutil.rmtree(place / "train" / name)
    first, second, third = (sorted((place / "train" / name).iterdir()) for name in classes[:3])
    shutil.copy(first[0], first[0].with_name("again.png"))
    shutil.copy(second[1], third[0].with_name("wrong.png"))
    shutil.copy(third[2], place / "test" / classes[2] / "seen.png")
    return place, classes


def test_what_is_wrong_with_the_pictures_is_found(planted, tmp_path, capsys):
    place, classes = planted
    out = tmp_path / "out.csv"
    assert predict(place, out, "--unknown", "auto", "--method", "linear_probe") == 0
    told = capsys.readouterr().out
    found = json.loads((tmp_path / "out.report.json").read_text())
    score = found["held_out"]["score"]
    assert score["asked"] == found["labelled"] == 5 * (CLASSES - 2) + 2
    assert score["low"] < score["accuracy"] < score["high"]
    assert f"{score['right']} of {score['asked']}, {score['accuracy']:.1f} %" in told
    twice = {frozenset((one["picture"], one["other"])): one for one in found["twice"]}
    copies = [one for one in twice.values() if one["same_file"]]
    assert {one["other"].split("/")[1] for one in copies} <= {"again.png", "wrong.png"}
    across = [one for one in copies if one["label"] != one["other_label"]]
    assert [one["label"] for one in across] == [classes[1]]
    assert len(copies) == 2
    wrong = [one for one in found["mislabelled"] if one["picture"] == f"{classes[2]}/wrong.png"]
    assert [one["predicted"] for one in wrong] == [classes[1]]
    also = found["pictures"]["also_labelled"]["pictures"]
    seen = [one for one in also if one["image"].endswith("seen.png")]
    assert [one["same_file"] for one in seen] == [True]
    assert seen[0]["labelled"].startswith(f"{classes[2]}/")

    rows = table(out)
    judged = found["pictures"]["by_folder"]
    known = [row for row in rows if row["image"].split("/")[-2] in classes[:-2]]
    right = sum(row["class_1"] == row["image"].split("/")[-2] for row in known)
    assert (judged["answers"]["score"]["right"], judged["answers"]["score"]["asked"]) == (
        right,
        len(known),
    )
    off = [row for row in rows if row["image"].split("/")[-2] in classes[-2:]]
    assert judged["elsewhere"] == len(off) > 5
    assert sum(not row["label"] for row in off) > len(off) / 2
    assert sum(not row["label"] for row in known) < len(known) / 4
    # The similarity is the cosine to the closest labelled picture: 1 for one of them.
    assert [row["similarity"] for row in rows if row["image"].endswith("seen.png")] == ["1.0000"]


def test_a_single_picture_of_each_class_bears_no_certainty_and_is_said(pictures, tmp_path, capsys):
    out = tmp_path / "out.csv"
    assert predict(pictures, out, "--shots", "1") == 0
    told = capsys.readouterr().out
    assert "leaves none to hold out" in told
    assert "(meta_probe is taken)" in told
    assert max(float(row["probability"]) for row in table(out)) < 0.9999
    assert predict(pictures, tmp_path / "no.csv", "--shots", "1", "--unknown", "auto") == 2
    assert "needs 5 of them: there are 0" in capsys.readouterr().err
    assert not (tmp_path / "no.csv").exists()


def test_a_file_that_lies_where_the_report_belongs_is_left_alone(pictures, tmp_path, capsys):
    of_another = '{"format": "fsclip predictions", "table": "out.tsv"}'
    for text in ('{"mine": 1}', "[", of_another):
        (tmp_path / "out.report.json").write_text(text)
        assert predict(pictures, tmp_path / "out.csv") == 2
        assert "out.report.json, where the report of out.csv belongs" in capsys.readouterr().err
        assert (tmp_path / "out.report.json").read_text() == text


@pytest.mark.slow
@pytest.mark.kills
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL and fork are POSIX")
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_killed_again_and_again_it_writes_the_same_table(pictures, tmp_path, kills, ending):
    out, whole = tmp_path / f"out.{ending}", tmp_path / f"whole.{ending}"
    assert predict(pictures, whole, "--method", "prototype") == 0
    words = ["predict", "--support", str(pictures / "train"), "--images", str(pictures / "test")]
    words += ["--out", str(out), "--method", "prototype"]
    compiled = str(tmp_path / "compiled")
    lines = kills_of("predict_child.py", kills, out, *words, FSCLIP_COMPILE_CACHE=compiled)
    rows = [int(line[1]) for line in lines]
    assert len(rows) == kills
    assert len(set(rows)) >= min(6, kills - 1), rows  # it was met in many states
    tables = sorted(tmp_path.glob("table-*"))
    assert len(tables) >= (2 if kills > 5 else 1)
    assert all(found.read_bytes() == whole.read_bytes() for found in tables)
