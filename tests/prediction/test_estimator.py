import pickle
import warnings

import numpy as np
import pytest
from PIL import Image
from sklearn.utils.estimator_checks import check_estimator

import fsclip_jax
from fsclip_jax.data.emoji import open_emoji
from fsclip_jax.errors import UserError
from fsclip_jax.prediction.estimator import FewShotClassifier

TYPED = {
    "check_do_not_raise_errors_in_init_or_set_params": "types are checked at run time in the tests"
}


@pytest.mark.slow
def test_scikit_learn_accepts_it():
    # The plainest method, once a fit: every check has shapes of its own, and each compiles.
    plain = FewShotClassifier(method="prototype", backbone=None, calibrate=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's own, of its checks
        told = check_estimator(plain, on_fail=None, expected_failed_checks=TYPED)
    failed = {one["check_name"]: one["exception"] for one in told if one["status"] == "failed"}
    assert failed == {}
    assert sum(one["status"] == "passed" for one in told) > 30


@pytest.fixture(scope="module")
def emoji():
    source = open_emoji()
    some = [i for i in range(len(source)) if source.labels[i] < 8]
    train = [i for i in some if source.splits[i] == 0]
    test = [i for i in some if source.splits[i] == 2]
    return source, train, test


def names(source, rows):
    return [source.class_names[source.labels[i]] for i in rows]


def test_pictures_in_memory_and_in_files_are_classified_alike(emoji, tmp_path, monkeypatch):
    monkeypatch.setenv("FSCLIP_CACHE", str(tmp_path / "cache"))
    source, train, test = emoji
    for i in train:
        folder = tmp_path / "support" / names(source, [i])[0]
        folder.mkdir(parents=True, exist_ok=True)
        source.load(i).save(folder / f"{i}.png")
    (tmp_path / "new").mkdir()
    for place, i in enumerate(test):
        source.load(i).save(tmp_path / "new" / f"{place:03}.png")

    pictures = [source.load(i) for i in test]
    made = FewShotClassifier(method="text_prototype").fit(
        [source.load(i) for i in train], names(source, train)
    )
    by_name = {name: place for place, name in enumerate(made.classes_)}
    ours = made.predict_proba(pictures)
    arrays = made.predict_proba(np.stack([np.asarray(picture) for picture in pictures]))
    np.testing.assert_array_equal(ours, arrays)

    read = fsclip_jax.FewShotClassifier.from_folder(tmp_path / "support", method="text_prototype")
    theirs = read.predict_proba(tmp_path / "new")
    order = [by_name[name] for name in read.classes_]
    np.testing.assert_allclose(ours[:, order], theirs, atol=2e-3)
    assert (read.predict(tmp_path / "new") == made.predict(pictures)).all()
    assert made.score(pictures, names(source, test)) > 0.5

    again = pickle.loads(pickle.dumps(read))
    np.testing.assert_array_equal(again.predict_proba(tmp_path / "new"), theirs)


def test_mistakes_are_told_in_one_line(emoji, tmp_path):
    source, train, _ = emoji
    pictures, labels = [source.load(i) for i in train], names(source, train)
    with pytest.raises(UserError, match="pictures need a backbone"):
        FewShotClassifier(backbone=None).fit(pictures, labels)
    with pytest.raises(UserError, match=r"no method named 'linear_prob'; .* did you mean"):
        FewShotClassifier("linear_prob").fit(pictures, labels)
    with pytest.raises(ValueError, match="pictures have 3 labels"):
        FewShotClassifier().fit(pictures, labels[:3])
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"picture 0 cannot be read \(.*bad.png"):
        FewShotClassifier().fit([tmp_path / "bad.png", Image.new("RGB", (9, 9))], ["a", "b"])
    with pytest.raises(ValueError, match="features of width 7 are not of the backbone mini"):
        FewShotClassifier().fit(np.eye(7), list("abababa"))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = fsclip_jax.Nothing
