"""Every number of a report, computed again from the kept answers with plain numpy and scipy."""

import dataclasses
import errno
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recomputed import agree, check_report
from safetensors.numpy import load, save
from synthetic_bank import CLASSES, synthetic_bank

from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.evaluate import evaluate_bank, keep_predictions
from fsclip_jax.evaluation.predictions_file import (
    PREDICTIONS_FILE,
    read_predictions,
    store_predictions,
)
from fsclip_jax.report.rows import report_to_json

METHODS = ("zero_shot", "prototype", "text_prototype", "tip_adapter", "meta_adapter")


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    # In no order: rows of the bank are not places in it sorted by class.
    return synthetic_bank(tmp_path_factory.mktemp("banks") / "plain", shuffled=True)


def evaluated(bank, out, **fields):
    fields = {"shots": (1, 3), "data": "bank:there", "methods": METHODS} | fields
    report = keep_predictions(evaluate_bank(EvalConfig(**fields), bank, out), out)
    kept = read_predictions(out) if (out / PREDICTIONS_FILE).exists() else None
    return json.loads(report_to_json(report)), kept


@pytest.fixture(scope="module")
def found(bank, tmp_path_factory):
    folder = tmp_path_factory.mktemp("found")
    fields = {"protocol": "cross_category", "label_space": "generalised"}
    return *evaluated(bank, folder, **fields), folder


def test_every_number_follows_from_the_kept_answers(found):
    tree, kept, _ = found
    assert check_report(tree, kept) == 3 * 2 * len(METHODS)
    tree["rows"][3]["metrics"]["accuracy"]["ci95"] += 1e-3
    with pytest.raises(AssertionError):
        check_report(tree, kept)


@pytest.mark.parametrize("classes", ["all", "novel"])
def test_every_number_of_full_way_follows_too(bank, tmp_path, classes):
    # All six images of every class: a single draw without interval.
    tree, kept = evaluated(bank, tmp_path, classes=classes, shots=(2, 6), methods=METHODS[:2])
    assert check_report(tree, kept) == 4
    assert {len(row.predicted) for row in kept.rows if row.shots == 6} == {1}
    assert kept.groups[0].name == ("test" if classes == "all" else "novel")


def test_every_number_of_episodic_follows_from_its_episodes(bank, tmp_path):
    fields = {"protocol": "episodic", "way": 3, "query": 4, "episodes": 30, "select": "none"}
    tree, kept = evaluated(bank, tmp_path, **fields, shots=(1,), methods=METHODS[:3])
    assert kept is None
    assert "predictions_sha256" not in tree["settings"]
    accuracies = {
        row["method"]: np.array(row["metrics"]["accuracy"]["per_seed"]) for row in tree["rows"]
    }
    for row in tree["rows"]:
        mine = accuracies[row["method"]]
        np.testing.assert_allclose(mine * 12 / 100, np.round(mine * 12 / 100), atol=1e-6)
        agree(row["metrics"]["accuracy"], mine)
        for other, difference in row["versus"].items():
            agree(difference["accuracy"], mine - accuracies[other])


def test_records_are_the_images_of_the_bank(bank, found):
    _, kept, _ = found
    assert kept.data == ("bank:there",)
    rows = kept.records.rows
    assert [bank.keys[row] for row in rows] == list(kept.records.keys)
    for group in kept.groups:
        space = kept.space(group.name)
        asked = rows[group.queries]
        assert set(bank.splits[asked]) == {2}
        np.testing.assert_array_equal(space.classes[group.labels], bank.labels[asked])
    (space,) = kept.spaces
    assert space.class_names == bank.class_names
    assert space.support.shape == (3, CLASSES, 3)
    shots = rows[space.support]
    assert set(bank.splits[shots].ravel()) == {0}
    assert (bank.labels[shots] == space.classes[:, None]).all()
    asked = sorted(np.concatenate([rows[group.queries] for group in kept.groups]).tolist())
    assert asked == np.flatnonzero(bank.splits == 2).tolist()


def test_the_prototypes_of_the_kept_shots_give_the_kept_answers(bank, found):
    """So the kept shots are those that were used."""
    _, kept, _ = found
    mean = bank.features.mean(0)
    mean /= np.linalg.norm(mean, axis=-1, keepdims=True)
    rows = kept.records.rows
    for group in kept.groups:
        query = bank.features[0][rows[group.queries]]
        for shots in (1, 3):
            answers = kept.find("prototype", shots, group.name)
            for draw, support in enumerate(kept.space(group.name).support):
                centre = mean[rows[support[:, :shots]]].mean(1)
                centre /= np.linalg.norm(centre, axis=-1, keepdims=True)
                best = (query @ centre.T).argmax(1)
                assert (best == answers.predicted[draw]).mean() > 0.98


def test_classes_short_of_shots_have_no_record_there(tmp_path):
    bank = synthetic_bank(tmp_path / "bank", families=2, per_class=[6, 6, 6, 6, 6, 6, 2])
    _, kept = evaluated(bank, tmp_path, methods=("zero_shot",), shots=(4,))
    support = kept.spaces[0].support
    assert (support[:, 6, 2:] == -1).all()
    assert (support[:, :6] >= 0).all()


def test_the_same_evaluation_gives_the_same_bytes_and_the_report_names_them(tmp_path, found):
    tree, kept, folder = found
    assert store_predictions(kept, tmp_path) == tree["settings"]["predictions_sha256"]
    assert (tmp_path / PREDICTIONS_FILE).read_bytes() == (folder / PREDICTIONS_FILE).read_bytes()


def test_no_predictions_leaves_none_behind(bank, tmp_path):
    few = {"methods": ("zero_shot",), "shots": (1,)}
    evaluated(bank, tmp_path, **few)
    assert (tmp_path / PREDICTIONS_FILE).exists()
    tree, kept = evaluated(bank, tmp_path, **few, predictions=False)
    assert kept is None
    assert "predictions_sha256" not in tree["settings"]


def test_files_of_version_1_are_read(found, tmp_path):
    _, kept, folder = found
    whole = (folder / PREDICTIONS_FILE).read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]
    tensors = {name.replace("/nll", "/surprise"): each for name, each in load(whole).items()}
    index = json.loads(header["index"]) | {"version": 1}
    (tmp_path / PREDICTIONS_FILE).write_bytes(save(tensors, {"index": json.dumps(index)}))
    again = read_predictions(tmp_path)
    for row, before in zip(again.rows, kept.rows, strict=True):
        np.testing.assert_array_equal(row.nll, before.nll)


def test_what_is_damaged_is_told_in_one_line(found, tmp_path):
    _, _, folder = found
    whole = (folder / PREDICTIONS_FILE).read_bytes()
    header = whole[8 : 8 + int.from_bytes(whole[:8], "little")]
    index = json.loads(header)["__metadata__"]["index"]

    def refused(change, **fields):
        tensors = {name: tensor.copy() for name, tensor in load(whole).items()}
        change(tensors)
        told = json.loads(index) | fields
        (tmp_path / PREDICTIONS_FILE).write_bytes(save(tensors, {"index": json.dumps(told)}))
        with pytest.raises(UserError) as error:
            read_predictions(tmp_path)
        assert "\n" not in str(error.value)

    refused(lambda t: t.pop("row/0/nll"))
    refused(lambda t: t["row/1/predicted"].__setitem__((0, 0), CLASSES))
    refused(lambda t: t["group/0/labels"].__setitem__(0, -1))
    refused(lambda t: t["space/0/support"].__setitem__((0, 0, 0), 10**6))
    refused(lambda t: t["records/key_offsets"].__setitem__(1, 10**9))
    refused(lambda t: t.update({"row/0/confidence": np.zeros((1, 1), np.float32)}))
    refused(dict.copy, version=3)
    refused(dict.copy, spaces=[])
    refused(dict.copy, rows=[{"method": "a", "shots": 1, "split": "none"}])
    with pytest.raises(UserError, match="no predictions"):
        read_predictions(tmp_path / "nowhere")


@given(st.data())
def test_any_bytes_are_read_or_refused(found, tmp_path_factory, data):
    _, kept, folder = found
    content = bytearray(
        (folder / PREDICTIONS_FILE).read_bytes()[: data.draw(st.integers(0, 20_000))]
    )
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "any.safetensors"
    file.write_bytes(content)
    try:
        again = read_predictions(file)
    except UserError:
        return
    assert len(again.rows) == len(kept.rows)


def test_a_row_that_is_not_kept_is_none(found):
    _, kept, _ = found
    assert kept.find("zero_shot", 9, "base") is None
    with pytest.raises(KeyError):
        kept.group("harmonic")
    assert dataclasses.replace(kept, rows=()).find("zero_shot", 1, "base") is None


def test_a_full_disk_leaves_what_was_there_before(bank, tmp_path, monkeypatch):
    few = {"methods": ("zero_shot",), "shots": (1,)}
    _, before = evaluated(bank, tmp_path, **few)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match="no space left to write"):
        evaluated(bank, tmp_path, **few, seeds=5)
    assert [file.name for file in tmp_path.iterdir()] == [PREDICTIONS_FILE]
    assert read_predictions(tmp_path).spaces[0].support.shape == before.spaces[0].support.shape
