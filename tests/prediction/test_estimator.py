import pickle
import warnings

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import check_estimator

import fsclip_jax
from fsclip_jax.data.emoji import open_emoji
from fsclip_jax.data.prompts import choose_prompts
from fsclip_jax.errors import UserError
from fsclip_jax.fitting.engine import process_engine
from fsclip_jax.prediction import class_text
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
    made = FewShotClassifier("text_prototype", "mini").fit(
        [source.load(i) for i in train], names(source, train)
    )
    by_name = {name: place for place, name in enumerate(made.classes_)}
    ours = made.predict_proba(pictures)
    arrays = made.predict_proba(np.stack([np.asarray(picture) for picture in pictures]))
    np.testing.assert_array_equal(ours, arrays)

    read = fsclip_jax.FewShotClassifier.from_folder(
        tmp_path / "support", method="text_prototype", backbone="mini"
    )
    theirs = read.predict_proba(tmp_path / "new")
    order = [by_name[name] for name in read.classes_]
    np.testing.assert_allclose(ours[:, order], theirs, atol=2e-3)
    assert (read.predict(tmp_path / "new") == made.predict(pictures)).all()
    assert made.score(pictures, names(source, test)) > 0.5

    again = pickle.loads(pickle.dumps(read))
    np.testing.assert_array_equal(again.predict_proba(tmp_path / "new"), theirs)


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    numbers = np.arange(24) % 3
    return rng.normal(size=(24, 16)) + 3 * np.eye(16)[numbers], np.array(["b", "a", "c"])[numbers]


def bare(**settings):
    return FewShotClassifier(backbone=None, **settings)


def test_pictures_can_be_added_of_old_and_new_classes(features):
    X, y = features
    whole = bare().fit(X, y)
    old = y != "c"
    parts = bare().partial_fit(X[old][:9], y[old][:9])
    assert parts.classes_.tolist() == ["a", "b"]
    parts.partial_fit(X[old][9:], y[old][9:]).partial_fit(X[~old], y[~old])
    assert parts.classes_.tolist() == ["a", "b", "c"]
    assert len(parts.support_features_) == 24
    np.testing.assert_allclose(parts.predict_proba(X), whole.predict_proba(X), atol=1e-4)
    with pytest.raises(ValueError, match=r"\['z'\] are none of the classes"):
        parts.partial_fit(X[:1], ["z"], classes=["a", "b", "c"])


def test_the_best_classes_come_in_order(features):
    X, y = features
    fitted = bare().fit(X, y)
    labels, shares = fitted.top_k(X, 2)
    assert labels.shape == shares.shape == (24, 2)
    assert (labels[:, 0] == fitted.predict(X)).all()
    np.testing.assert_array_equal(shares[:, 0], fitted.predict_proba(X).max(-1))
    assert (shares[:, 0] >= shares[:, 1]).all()
    assert fitted.top_k(X, 9)[0].shape == (24, 3)


def test_what_is_of_none_of_the_classes_is_told(features, tmp_path):
    X, y = features
    fitted = bare(method="prototype").fit(X, y)
    strange = -X[:6]
    assert fitted.unknown(strange).all()
    assert fitted.unknown(X).mean() < 0.3
    np.testing.assert_array_equal(fitted.unknown(X, 0.9), fitted.predict_proba(X).max(-1) < 0.9)
    fitted.save(tmp_path / "saved")
    both = np.concatenate([X, strange])
    read = FewShotClassifier.load(tmp_path / "saved")
    np.testing.assert_array_equal(read.unknown(both), fitted.unknown(both))
    with pytest.raises(UserError, match="unknown 'auto' learns from labelled pictures"):
        bare(method="prototype").fit(X[:3], y[:3]).unknown(X)


def test_neighbours_are_the_nearest_labelled_pictures(features):
    X, y = features
    fitted = bare().fit(X, y)
    unit = fitted.transform(X)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    distances, places = fitted.kneighbors(X[:4], 3)
    assert places[:, 0].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(distances, 1 - np.sort(unit[:4] @ unit.T)[:, :-4:-1], atol=1e-6)
    among = fitted.kneighbors(n_neighbors=23, return_distance=False)
    assert all(sorted([place, *row]) == list(range(24)) for place, row in enumerate(among))
    with pytest.raises(ValueError, match="must be from 1 to 23"):
        fitted.kneighbors(n_neighbors=24)


def test_few_shots_are_spread_over_a_class(features):
    X, y = features
    few = bare(shots=2, method="prototype").fit(X, y)
    rows = np.concatenate([np.flatnonzero(y == name)[[0, 4]] for name in "abc"])
    same = bare(method="prototype").fit(X[rows], y[rows])
    np.testing.assert_allclose(few.predict_proba(X), same.predict_proba(X), atol=1e-6)
    with pytest.raises(UserError, match="shots is 0"):
        bare(shots=0).fit(X, y)


def test_templates_of_ones_own_reach_the_text_tower(monkeypatch):
    asked = []
    real = class_text.class_text_features
    monkeypatch.setattr(
        class_text,
        "class_text_features",
        lambda clip, prompts: asked.extend(prompts) or real(clip, prompts),
    )
    monkeypatch.setattr(class_text, "prompts_of", prompts_of_photos)
    X = np.random.default_rng(0).normal(size=(4, 192))
    FewShotClassifier("zero_shot", "mini", templates=["one {}", "two {}"]).fit(X, list("abab"))
    assert asked == [("one a", "two a"), ("one b", "two b")]
    with pytest.raises(UserError, match=r"templates is 'a photo of a \{\}'; give 'single' or"):
        FewShotClassifier(templates="a photo of a {}").fit(X, list("abab"))


def prompts_of_photos(source, _, settings):
    """As of a CLIP that was trained on sentences."""
    return choose_prompts(source, settings.templates)


def test_folds_of_a_cross_validation_share_what_was_compiled(features):
    X, y = features
    programs = process_engine()
    model = bare(method="gda")
    cross_val_score(model, X, y, cv=3)
    before = programs.programs
    assert before
    cross_val_score(model, X[::-1], y[::-1], cv=3)
    assert programs.programs == before


def test_no_picture_has_no_prediction(emoji, tmp_path, monkeypatch):
    monkeypatch.setenv("FSCLIP_CACHE", str(tmp_path))
    source, train, _ = emoji
    made = FewShotClassifier("prototype", "mini").fit(
        [source.load(i) for i in train], names(source, train)
    )
    assert made.predict([]).shape == (0,)
    assert made.predict_proba([]).shape == (0, 8)
    with pytest.raises(UserError, match="there are no pictures to learn from"):
        made.fit([], [])


def test_mistakes_are_told_in_one_line(emoji, tmp_path):
    source, train, _ = emoji
    pictures, labels = [source.load(i) for i in train], names(source, train)
    with pytest.raises(UserError, match="pictures need a backbone"):
        FewShotClassifier(backbone=None).fit(pictures, labels)
    with pytest.raises(UserError, match=r"no method named 'linear_prob'; .* did you mean"):
        FewShotClassifier("linear_prob", "mini").fit(pictures, labels)
    with pytest.raises(ValueError, match="pictures have 3 labels"):
        FewShotClassifier(backbone="mini").fit(pictures, labels[:3])
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"picture 0 cannot be read \(.*bad.png"):
        FewShotClassifier(backbone="mini").fit(
            [tmp_path / "bad.png", Image.new("RGB", (9, 9))], ["a", "b"]
        )
    with pytest.raises(ValueError, match="features of width 7 are not of the backbone mini"):
        FewShotClassifier(backbone="mini").fit(np.eye(7), list("abababa"))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = fsclip_jax.Nothing


def test_who_names_no_clip_is_told_what_the_bundled_one_knows(emoji, tmp_path, monkeypatch):
    monkeypatch.setenv("FSCLIP_CACHE", str(tmp_path))
    source, train, _ = emoji
    pictures, labels = [source.load(i) for i in train], names(source, train)
    with pytest.warns(UserWarning, match="mini, knows icons; for photographs give backbone="):
        made = FewShotClassifier("prototype").fit(pictures, labels)
    named = FewShotClassifier("prototype", "mini").fit(pictures, labels)
    np.testing.assert_array_equal(made.predict_proba(pictures), named.predict_proba(pictures))
