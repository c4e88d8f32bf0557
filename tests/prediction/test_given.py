"""What newcomers give in Python: taken, or refused in one line that says what to give."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline

import fsclip_jax
from fsclip_jax import FewShotClassifier
from fsclip_jax.errors import UserError
from fsclip_jax.prediction.given import as_labels, as_pictures

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), np.uint8)
LABELS = ["cat", "dog"] * 3
FEATURES = np.random.default_rng(0).normal(size=(6, 8)) + 3 * np.eye(8)[[0, 1] * 3]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FSCLIP_CACHE", str(tmp_path_factory.getbasetemp() / "given"))


def plain(**settings):
    """An estimator with settings that are not checked before it is fitted."""
    return FewShotClassifier("prototype", "mini").set_params(**settings)


def bare(**settings):
    return plain(backbone=None, **settings)


NOTHING = {
    "None": (None, r"X is missing \(None\), and holds no pictures; give files"),
    "a number": (3, "X is of the type int, and holds no pictures"),
    "a mapping": ({"a": "a.png"}, "X is of the type dict"),
    "a set": ({"a.png"}, "X is of the type set"),
    "a missing value": (["a.png", None], r"X\[1\] is missing \(None\), and no picture"),
    "not a number": (np.array(["a.png", np.nan], object), r"X\[1\] is missing \(nan\)"),
    "a mix": (["a.png", 3], r"X\[1\] is of the type int, and no picture"),
    "nested": ([["a.png"], ["b.png"]], "X holds lists of pictures; give one flat list"),
    "a table": (np.array([["a.png", "b.png"]]), r"in the shape \(1, 2\); give a flat list, X.rav"),
    "no name": ("", "X is an empty name"),
    "no name in a list": (["a.png", ""], r"X\[1\] is an empty name"),
    "an address": ("https://a.org/b.png", "X is an address; download it first"),
    "open as text": (io.StringIO("text"), "open as text; open it as bytes, mode 'rb'"),
    "floats": (PIXELS / 255, r"pixels are float64; give uint8: .*\(255 \* X\).round\(\)"),
    "a list of floats": ([PIXELS[0] / 255], r"X\[0\]: pixels are float64; give uint8"),
    "a list of grey floats": ([PIXELS[0, ..., 0] / 255], r"X\[0\]: pixels are float64"),
    "whole numbers": (PIXELS.astype(int), r"pixels are int64; give uint8: X.astype\('uint8'\)"),
    "channels first": (PIXELS.transpose(0, 3, 1, 2), r"numpy.moveaxis\(X, -3, -1\) where chan"),
    "one, channels first": (PIXELS[0].transpose(2, 0, 1), r"has the shape \(3, 40, 40\); wanted"),
    "grey ones": (PIXELS[..., 0], r"X\[..., None\] of grey pictures"),
    "five axes": (PIXELS[None], r"has the shape \(1, 6, 40, 40, 3\); wanted is \[height width 3"),
    "no pixels": ([np.zeros((0, 5, 3), np.uint8)], r"X\[0\]: a picture has no pixels"),
}


@pytest.mark.parametrize(("given", "said"), NOTHING.values(), ids=NOTHING)
def test_what_is_no_picture_is_one_line(given, said):
    with pytest.raises(UserError, match=said) as caught:
        as_pictures(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [PIXELS[..., :1], np.concatenate([PIXELS, PIXELS[..., :1]], -1), (one for one in PIXELS)],
    ids=["grey", "with alpha", "generator"],
)
def test_pictures_of_other_kinds_are_taken(given):
    assert fsclip_jax.load_clip().encode_image(given).shape == (6, 192)


LABELLINGS = {
    "ints": ([3, 1, 3], [1, 3]),
    "bools": ([True, False, True], [False, True]),
    "floats that are whole": ([1.0, 0.0, 1.0], [0.0, 1.0]),
    "words": (("b", "a", "b"), ["a", "b"]),
    "objects": (np.array(["b", "a", "b"], object), ["a", "b"]),
    "whole numbers as objects": (np.array([3, 1, 3], object), [1, 3]),
    "a generator": ((one for one in "bab"), ["a", "b"]),
}


@pytest.mark.parametrize(("y", "classes"), LABELLINGS.values(), ids=LABELLINGS)
def test_labels_of_every_kind_are_taken(y, classes):
    found = np.unique(as_labels(y))
    assert found.tolist() == classes
    assert [type(one) for one in found.tolist()] == [type(one) for one in classes]


NO_LABELS = {
    "missing": (["a", None], r"y\[1\] is missing \(None\); leave it out, and its picture"),
    "not a number": ([0.0, np.nan], r"y\[1\] is missing \(nan\)"),
    "an object": (np.array(["a", np.nan], object), r"y\[1\] is missing \(nan\)"),
    "a mix": (["a", "b", 1], r"y\[0\] is 'a' and y\[2\] is 1; give labels of one kind"),
    "a mix of objects": (np.array([1, "b"], object), r"y\[0\] is 1 and y\[1\] is 'b'"),
    "shares": (np.eye(2), "y should be a 1d array"),
    "fractions": ([0.5, 1.5], "Unknown label type: continuous"),
    "a word": ("cat", "y should be a 1d array"),
}


@pytest.mark.parametrize(("y", "said"), NO_LABELS.values(), ids=NO_LABELS)
def test_labels_that_are_none_are_one_line(y, said):
    with pytest.raises(ValueError, match=said) as caught:
        as_labels(y)
    assert "\n" not in str(caught.value)


def fitted():
    return bare().fit(FEATURES, LABELS)


MISTAKES = {
    "no labels": (lambda: bare().fit("folder"), "the target y is None; from_folder takes the name"),
    "too few labels": (lambda: plain().fit(PIXELS, LABELS[:4]), "6 pictures have 4 labels"),
    "nan": (lambda: bare().fit(FEATURES * np.nan, LABELS), "^Input X contains NaN.$"),
    "one feature": (lambda: fitted().predict(FEATURES[0]), "got 1D array instead: Reshape your"),
    "pixels without a clip": (lambda: bare().fit(PIXELS, LABELS), "pictures need a backbone"),
    "method": (lambda: plain(method=7).fit(PIXELS, LABELS), "method is 7; give the name of a"),
    "no method": (lambda: plain(method="knn").fit(PIXELS, LABELS), "no method named 'knn'"),
    "backbone": (lambda: plain(backbone=7).fit(PIXELS, LABELS), "backbone is 7; give the name"),
    "no backbone": (lambda: plain(backbone="vit").fit(PIXELS, LABELS), "there is no backbone 'vi"),
    "shots": (lambda: bare(shots=1.5).fit(FEATURES, LABELS), "shots is 1.5; give a whole number"),
    "templates": (lambda: plain(templates=["a"]).fit(PIXELS, LABELS), r"has 'a'; give .* with \{"),
    "no templates": (lambda: plain(templates=[]).fit(PIXELS, LABELS), r"templates has \(\); give"),
    "calibrate": (lambda: bare(calibrate="no").fit(FEATURES, LABELS), "calibrate is 'no'; give T"),
    "k": (lambda: fitted().top_k(FEATURES, 0), "k is 0; give a whole number from 1"),
    "threshold": (lambda: fitted().unknown(FEATURES, 2.0), "threshold is 2.0; give 'auto', or a"),
    "other kind": (lambda: fitted().partial_fit(FEATURES[:1], [1]), "the labels were <U3 and are"),
}


@pytest.mark.parametrize(("act", "said"), MISTAKES.values(), ids=MISTAKES)
def test_other_mistakes_are_one_line(act, said):
    with pytest.raises(ValueError, match=said) as caught:
        act()
    assert "\n" not in str(caught.value)


def test_what_needs_a_fit_says_so(tmp_path):
    for act in (
        lambda made: made.predict(FEATURES),
        lambda made: made.top_k(FEATURES),
        lambda made: made.unknown(FEATURES),
        lambda made: made.kneighbors(),
        lambda made: made.save(tmp_path / "s"),
        lambda made: made.push_to_hub("me/birds"),
    ):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            act(bare())


def test_one_class_is_warned_of():
    with pytest.warns(UserWarning, match="all pictures are of one class, cat: every other will"):
        made = bare().fit(FEATURES[::2], LABELS[::2])
    assert made.predict(FEATURES).tolist() == ["cat"] * 6


def test_nothing_has_no_answers():
    made = fitted()
    for nothing in ([], np.zeros((0, 8))):
        assert made.predict(nothing).shape == (0,)
        assert made.predict_proba(nothing).shape == (0, 2)


def test_a_clip_of_other_weights_is_told(tmp_path):
    made = plain().fit(PIXELS, LABELS)
    made.save(tmp_path / "saved")
    file = tmp_path / "saved" / "classifier.json"
    sha256 = fsclip_jax.load_clip().backbone.sha256
    file.write_text(file.read_text().replace(sha256, "0" * 64))
    read = FewShotClassifier.load(tmp_path / "saved")
    with pytest.raises(UserError, match="fitted to features of other weights than mini has now"):
        read.predict(PIXELS)
    assert read.fit(PIXELS, LABELS).predict(PIXELS).tolist() == made.predict(PIXELS).tolist()


def test_features_have_names_and_come_as_a_table_if_one_is_asked_for():
    pandas = pytest.importorskip("pandas")
    made = fitted()
    asked = fitted().set_output(transform="pandas")
    table = asked.transform(FEATURES)
    assert isinstance(table, pandas.DataFrame)
    assert table.columns.tolist() == [f"fewshotclassifier{i}" for i in range(8)]
    np.testing.assert_array_equal(table, made.transform(FEATURES))
    np.testing.assert_array_equal(asked.predict_proba(FEATURES), made.predict_proba(FEATURES))
    np.testing.assert_array_equal(asked.kneighbors(FEATURES, 2), made.kneighbors(FEATURES, 2))


def test_it_goes_into_what_scikit_learn_has(tmp_path):
    names = [str(tmp_path / f"{place}.png") for place in range(6)]
    for name, pixels in zip(names, PIXELS, strict=True):
        Image.fromarray(pixels).save(name)
    model = plain()
    stacked = Pipeline([("features", plain()), ("classes", bare())])
    assert stacked.fit(names, LABELS).predict(names).tolist() == LABELS
    search = GridSearchCV(model, {"method": ["prototype", "text_prototype"]}, cv=3)
    assert set(search.fit(names, LABELS).predict(names)) <= {"cat", "dog"}
    assert cross_val_score(model, names, LABELS, cv=3).shape == (3,)
    calibrated = CalibratedClassifierCV(model, cv=3).fit(PIXELS, LABELS)
    np.testing.assert_allclose(calibrated.predict_proba(PIXELS).sum(1), 1, atol=1e-6)
