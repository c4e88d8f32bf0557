"""A saved classifier answers as before, and a spoilt one is refused in a line."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fsclip_jax import FewShotClassifier
from fsclip_jax.adapters.catalog import ADAPTERS
from fsclip_jax.errors import UserError
from fsclip_jax.fitting.inputs import not_given_by
from fsclip_jax.fitting.methods import usable_names

METHODS = usable_names(not_given_by("features do not give"))


def task(labels=("cat", "dog", "eel")):
    rng = np.random.default_rng(0)
    numbers = np.arange(12) % len(labels)
    return rng.normal(size=(12, 16)) + 2 * np.eye(16)[numbers], np.array(labels)[numbers]


def test_the_methods_are_those_of_the_package():
    assert len(METHODS) > 12
    assert {name.removesuffix("_untrained") for name in METHODS} <= set(ADAPTERS)


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_classifier_answers_the_same(method, tmp_path):
    X, y = task()
    made = FewShotClassifier(method, backbone=None).fit(X, y)
    made.save(tmp_path / "saved")
    read = FewShotClassifier.load(tmp_path / "saved")
    np.testing.assert_array_equal(read.predict_proba(X), made.predict_proba(X))
    assert read.get_params() == made.get_params()
    assert read.fitted_.quality == made.fitted_.quality
    assert (read.fitted_.tried, read.fitted_.familiar) == (
        made.fitted_.tried,
        made.fitted_.familiar,
    )
    assert read.classes_.tolist() == ["cat", "dog", "eel"]
    np.testing.assert_array_equal(read.support_labels_, y)
    np.testing.assert_array_equal(read.kneighbors(X, 2)[1], made.kneighbors(X, 2)[1])
    more = read.partial_fit(X[:3], ["fox"] * 3)
    assert more.classes_.tolist() == ["cat", "dog", "eel", "fox"]
    files = {file.name for file in (tmp_path / "saved").iterdir()}
    assert {file.rpartition(".")[2] for file in files} == {"safetensors", "json", "md"}


@pytest.mark.parametrize("labels", [(3, 1, 2), (0.5, 1.5, 2.5), ("a", "é", ""), (True, False)])
def test_labels_come_back_as_they_were(labels, tmp_path):
    X, y = task(labels)
    y = y if y.dtype.kind != "f" else y.astype(int)
    FewShotClassifier("prototype", backbone=None).fit(X, y).save(tmp_path / "s")
    read = FewShotClassifier.load(tmp_path / "s")
    assert read.classes_.dtype.kind == y.dtype.kind
    assert set(read.predict(X)) <= set(y)


def test_a_saved_classifier_of_pictures_knows_its_clip(tmp_path, monkeypatch):
    monkeypatch.setenv("FSCLIP_CACHE", str(tmp_path))
    pictures = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), np.uint8)
    made = FewShotClassifier("text_prototype", "mini").fit(pictures, list("abab"))
    made.save(tmp_path / "saved")
    read = FewShotClassifier.load(tmp_path / "saved")
    np.testing.assert_array_equal(read.predict_proba(pictures), made.predict_proba(pictures))
    assert (
        json.loads((tmp_path / "saved" / "classifier.json").read_text())["backbone"]["id"] == "mini"
    )


def test_nothing_is_overwritten_and_nothing_is_no_classifier(tmp_path):
    X, y = task()
    made = FewShotClassifier("prototype", backbone=None).fit(X, y)
    made.save(tmp_path / "saved")
    with pytest.raises(UserError, match="exists already"):
        made.save(tmp_path / "saved")
    with pytest.raises(UserError, match=r"no classifier at .*nowhere"):
        FewShotClassifier.load(tmp_path / "nowhere")


def spoil_json(change):
    def spoil(folder):
        file = folder / "classifier.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return spoil


def test_labels_that_no_json_can_hold_are_told_when_they_are_saved(tmp_path):
    made = FewShotClassifier("prototype", backbone=None).fit(*task(("caf\udce9", "dog")))
    with pytest.raises(UserError, match=r"caf\\xe9.* is no UTF-8"):
        made.save(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def spoil_arrays(change):
    def spoil(folder):
        arrays = load_file(folder / "classifier.safetensors")
        change(arrays)
        save_file(arrays, folder / "classifier.safetensors")

    return spoil


def cut(folder):
    file = folder / "classifier.safetensors"
    file.write_bytes(file.read_bytes()[:-40])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut, "is damaged"),
        (lambda folder: (folder / "adapter.safetensors").unlink(), "no adapter at"),
        (spoil_json(lambda c: c.update(format=2)), "is no saved classifier"),
        (spoil_json(lambda c: c.update(temperature=["x"])), "is no saved classifier"),
        (spoil_json(lambda c: c.update(temperature=[0.0, 1, None, None])), "temperature"),
        (spoil_json(lambda c: c.update(logit_scale=-1.0)), "scale"),
        (spoil_json(lambda c: c["classes"].append("fox")), "do not fit each other"),
        (spoil_json(lambda c: c["settings"].update(own=1)), "unknown here: own"),
        (spoil_json(lambda c: c["settings"].update(shots="x")), "is damaged"),
        (spoil_arrays(lambda a: a.update(numbers=a["numbers"] + 9)), "do not fit each other"),
        (spoil_arrays(lambda a: a.pop("state.0")), "is damaged"),
        (spoil_arrays(lambda a: a.update({"state.0": a["state.0"][None]})), "is damaged"),
        (spoil_arrays(lambda a: a.update(features=a["features"] * np.nan)), "not finite"),
    ],
)
def test_a_spoilt_classifier_is_refused_in_a_line(spoil, said, tmp_path):
    X, y = task()
    FewShotClassifier("prototype", backbone=None).fit(X, y).save(tmp_path / "s")
    spoil(tmp_path / "s")
    with pytest.raises(UserError, match=said) as told:
        FewShotClassifier.load(tmp_path / "s")
    assert "\n" not in str(told.value)
