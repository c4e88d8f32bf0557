"""Somebody's .npz becomes a bank, or one line says why not."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from fsclip_jax.errors import UserError
from fsclip_jax.features.importing import import_npz
from fsclip_jax.features.store import open_bank

REAL = Path(__file__).parents[3] / "shared" / "features"


def arrays(**changes):
    rng = np.random.default_rng(0)
    given = {
        "features": rng.normal(size=(6, 4)).astype(np.float16),
        "labels": np.array([0, 1, 2, 0, 1, 2]),
        "split": np.array(["train", "train", "train", "val", "test", "test"]),
        "class_names": np.array(["cat", "dog", "cat"]),
        "text_features": np.eye(3, 4, dtype=np.float32),
        "key": np.array(list("abcdef")),
    }
    return {k: v for k, v in (given | changes).items() if v is not None}


@pytest.fixture
def bring(tmp_path):
    def import_arrays(**changes):
        options = changes.pop("options", {})
        np.savez(tmp_path / "f.npz", **arrays(**changes))
        return import_npz(tmp_path / "f.npz", tmp_path / "bank", **options)

    return import_arrays


def test_everything_arrives(bring, tmp_path):
    made = bring(options={"backbone_id": "ViT-B/32"})
    bank = open_bank(tmp_path / "bank", verify=True)
    given = arrays()
    expected = given["features"].astype(np.float32)
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(bank.features[0], expected, atol=1e-3)
    assert bank.labels.tolist() == given["labels"].tolist()
    assert bank.splits.tolist() == [0, 0, 0, 1, 2, 2]
    assert bank.class_names == ("cat", "dog", "cat")
    assert bank.keys == tuple("abcdef")
    assert bank.domains is None
    assert bank.logit_scale == 100
    assert bank.manifest["backbone"] == {"id": "ViT-B/32", "sha256": None}
    said = "\n".join(made.notes)
    assert "features had lengths from" in said
    assert "1 class names occur more than once" in said
    assert "no logit scale was given: 100" in said


def test_lengths_of_text_vectors_are_kept(bring, tmp_path):
    """Those of the vectors, or those given beside; a mean of unit vectors has none to tell."""
    long = np.float32([2.0, 5.0, 9.0])
    unit = np.eye(3, 4, dtype=np.float32)
    for changes, expected in (
        ({"text_features": long[:, None] * unit}, long),
        ({"text_lengths": long}, long),
        ({"text_features": 0.9 * unit}, None),
    ):
        bank = bring(**changes).bank
        np.testing.assert_allclose(np.linalg.norm(bank.text_features, axis=-1), 1, atol=1e-6)
        if expected is None:
            assert bank.text_lengths is None
            assert bank.select(["train"]).text_lengths is None
        else:
            np.testing.assert_allclose(bank.text_lengths, expected)
        shutil.rmtree(tmp_path / "bank")


def test_the_logarithm_of_a_scale_is_noticed(bring, tmp_path):
    notes = bring(logit_scale=np.float32([[4.605]])).notes
    assert "logit scale is 4.605, where CLIPs have 10 to 120; likely the logarithm" in str(notes)
    notes = import_npz(tmp_path / "f.npz", tmp_path / "two", logit_scale=14.3).notes
    assert "logarithm" not in str(notes)


def test_defaults_of_what_is_left_out(bring):
    made = bring(split=None, class_names=None, key=None, features=np.ones((2, 6, 4), np.float32))
    bank = made.bank
    assert bank.features.shape == (2, 6, 4)
    assert bank.class_names == ("class 0", "class 1", "class 2")
    assert bank.keys[:2] == ("row-0000000", "row-0000001")
    # Two images a class: one to train on, one to test on.
    assert np.bincount(bank.splits, minlength=3).tolist() == [3, 0, 3]
    assert "hash" in "\n".join(made.notes)


def test_without_text_a_bank_holds_images_alone(bring, tmp_path):
    made = bring(text_features=None, logit_scale=None, class_names=np.array(list("abcd")))
    (note,) = [note for note in made.notes if "text" in note]
    assert "no text_features in the file, which holds features, labels" in note
    bank = open_bank(tmp_path / "bank", verify=True)
    assert bank.text_features is None
    assert bank.prompt_features is None
    assert bank.class_names == tuple("abcd")  # one of them without an image
    assert bank.logit_scale == pytest.approx(1 / 0.07)
    assert not np.asarray(bank.select(["train"]).text).any()
    assert bank.manifest["format_version"] == 2
    assert list(bank.manifest["files"]) == ["shard-00000.safetensors"]


@pytest.mark.parametrize(
    ("given", "names", "ids"),
    [
        ({"domain": np.array(list("yxyxyx"))}, ("x", "y"), [1, 0, 1, 0, 1, 0]),
        ({"domain": np.arange(6) % 2}, ("domain 0", "domain 1"), [0, 1, 0, 1, 0, 1]),
        (
            {"domain": np.arange(6) % 2, "domain_names": np.array(["p", "q"])},
            ("p", "q"),
            [0, 1, 0, 1, 0, 1],
        ),
    ],
)
def test_families(bring, given, names, ids):
    bank = bring(**given).bank
    assert bank.domain_names == names
    assert bank.domains.tolist() == ids


def test_logit_scale_of_flag_before_file(bring, tmp_path):
    assert bring(logit_scale=np.float32(30)).bank.logit_scale == 30
    made = import_npz(tmp_path / "f.npz", tmp_path / "second", logit_scale=50.0)
    assert made.bank.logit_scale == 50


WRONG = {
    "no labels": ({"labels": None}, "labels is missing; the file holds"),
    "prompts alone": (
        {"text_features": None, "prompt_features": np.ones((2, 3, 4), np.float32)},
        "prompt_features come without text_features",
    ),
    "negative label": (
        {"text_features": None, "labels": -np.arange(6)},
        "labels holds -1; classes",
    ),
    "huge label": ({"text_features": None, "labels": np.full(6, 10**9)}, "classes are numbered 0"),
    "one name": ({"text_features": None, "class_names": np.array("a")}, "1 names for 3 classes"),
    "fewer names": (
        {"text_features": None, "class_names": np.array(["a"])},
        "class_names has 1 names for 3 classes",
    ),
    "near miss": ({"features": None, "feature": np.ones((6, 4))}, "did you mean feature"),
    "objects": ({"class_names": np.array(["a", {}, 3], object)}, "never unpickled"),
    "integers": ({"features": np.ones((6, 4), int)}, "features has type int64"),
    "flat": ({"features": np.ones(6)}, r"features has shape \[6\]; it must be"),
    "empty": ({"features": np.ones((0, 4))}, r"features has shape \[1, 0, 4\]"),
    "nan": ({"features": np.full((6, 4), np.nan)}, "row 0 is zero, or has a value that is not"),
    "zero": ({"features": np.diag([1.0] * 3 + [0.0])[[0, 1, 3, 2, 1, 0]]}, "features row 2 is"),
    "text nan": ({"text_features": np.full((3, 4), np.inf, np.float32)}, "text_features row 0"),
    "few lengths": ({"text_lengths": np.ones(2)}, r"text_lengths is float64 \[2\], wanted"),
    "no length": ({"text_lengths": np.float32([1, 0, 2])}, "text_lengths has a value that is not"),
    "width": ({"text_features": np.ones((3, 5))}, "text_features has width 5, features have 4"),
    "few labels": ({"labels": np.zeros(5, int)}, r"labels has shape \[5\]; it must be \[6\]"),
    "label range": ({"labels": np.array([0, 1, 3, 0, 1, 2])}, "labels holds 3; .*0 to 2"),
    "label type": ({"labels": np.zeros(6)}, "labels has type float64"),
    "split": ({"split": np.array(["trian"] * 6)}, "'trian'; .*did you mean train"),
    "split type": ({"split": np.zeros(6)}, "split has type float64; it must be strings"),
    "names": ({"class_names": np.array(["a"])}, "class_names has 1 names for 3"),
    "key": ({"key": np.array(list("aabcde"))}, "key holds a key twice"),
    "domain": ({"domain": np.full(6, -1)}, "domain holds -1"),
    "domain names": (
        {"domain": np.arange(6), "domain_names": np.array(["a"])},
        "domain_names has 1 names, domain goes to 5",
    ),
    "scale": ({"logit_scale": np.array([1.0, 2.0])}, "logit_scale must be one number"),
    **{
        f"scale {value}": (
            {"logit_scale": np.array(value)},
            f"the logit scale is {value}; accepted are 0.001 to 1,000,000".replace("+", "[+]"),
        )
        for value in (-1.0, 0.0, 1e308, 1e7, float("inf"), float("nan"))
    },
    **{
        f"{name} {value}": ({name: np.full(shape, value)}, f"{name} .*not finite")
        for name, shape in (("features", (2, 3)), ("text_features", (1, 3)))
        for value in (1e300, np.float32(1e30), float("inf"), float("nan"))
    },
    "letters": ({"class_names": np.frombuffer(b"\xff\xff\xff\x7f" * 3, "<U1")}, "is no text"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arrays_are_told_in_one_line(bring, tmp_path, name):
    changes, line = WRONG[name]
    with pytest.raises(UserError, match=line) as caught:
        bring(**changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bank").exists()


def test_files_that_are_no_npz(tmp_path, bring):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="there is no file"):
        import_npz(tmp_path / "none.npz", out)
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps({"features": 1}))
    with pytest.raises(UserError, match=r"is not a NumPy \.npz"):
        import_npz(tmp_path / "pickle.npz", out)
    bring()
    whole = (tmp_path / "f.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cut short"):
        import_npz(tmp_path / "cut.npz", out)
    at = whole.index(b"NUMPY") + 200
    (tmp_path / "bent.npz").write_bytes(whole[:at] + b"!!" + whole[at + 2 :])
    with pytest.raises(UserError, match="cannot be read"):
        import_npz(tmp_path / "bent.npz", out)
    with pytest.raises(UserError, match="exists already"):
        import_npz(tmp_path / "f.npz", tmp_path / "bank")


@pytest.mark.parametrize(
    ("name", "shape", "zero_shot"),
    [("imagenet", (7000, 1000), 61.1), ("caltech67", (2331, 67), 94)],
)
def test_real_features_come_in_unchanged(tmp_path, name, shape, zero_shot):
    file = REAL / f"{name}_vitb32.npz"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    bank = import_npz(file, tmp_path / "bank").bank
    with np.load(file) as given:
        assert bank.class_names == tuple(given["class_names"].tolist())
        assert (np.array(["train", "val"])[bank.splits] == given["split"]).all()
        original = given["features"].astype(np.float32)
    assert (len(bank.labels), len(bank.class_names)) == shape
    np.testing.assert_allclose(bank.features[0], original, atol=1e-3)
    right = (bank.features[0] @ bank.text_features.T).argmax(-1) == bank.labels
    assert abs(100 * right.mean() - zero_shot) < 1.5


def test_prompt_vectors_arrive_and_zeros_stand_for_none(bring):
    prompts = np.random.default_rng(3).normal(size=(5, 3, 4)).astype(np.float64)
    prompts[3:, 1] = 0
    bank = open_bank(bring(prompt_features=prompts).bank.path, verify=True)
    norms = np.linalg.norm(prompts, axis=-1, keepdims=True)
    expected = prompts / np.where(norms > 0, norms, 1)
    np.testing.assert_allclose(bank.prompt_features, expected, atol=1e-6)
    on_device = bank.select(["train"], np.array([2, 1]))
    np.testing.assert_allclose(on_device.prompts, expected[:, [2, 1]].swapaxes(0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("prompts", "told"),
    [
        (np.ones((2, 3), np.float32), r"has shape \[2, 3\]; it must be \[P 3 4\]"),
        (np.ones((2, 4, 4), np.float32), r"has shape \[2, 4, 4\]"),
        (np.ones((0, 3, 4), np.float32), r"has shape \[0, 3, 4\]"),
        (np.ones((2, 3, 4), np.int32), "must be floating point"),
        (np.full((2, 3, 4), np.nan, np.float32), "not finite; write zeros"),
        (np.eye(3, 3)[None].repeat(4, 0).transpose(1, 2, 0) * [[[1], [0], [1]]], "class 1"),
    ],
)
def test_prompt_vectors_that_do_not_fit(bring, prompts, told):
    with pytest.raises(UserError, match=f"prompt_features .*{told}"):
        bring(prompt_features=prompts)


# --- as others write them ---------------------------------------------------------------------


def as_others_do():
    """What `arrays` holds, by other names, turned, and with one-hot labels."""
    given = arrays(split=None)
    return {
        "image_features": given["features"].T,
        "targets": np.eye(3, dtype=np.int64)[given["labels"]],
        "clip_weights": given["text_features"].T,
        "classnames": given["class_names"],
        "paths": given["key"],
    }


def same_bank(made, bring):
    ours = bring(split=None).bank
    theirs = open_bank(made.bank.path)
    assert theirs.class_names == ours.class_names
    assert theirs.keys == ours.keys
    np.testing.assert_array_equal(theirs.labels, ours.labels)
    np.testing.assert_array_equal(theirs.text_features, ours.text_features)
    mine, other = (one.select(["train", "val", "test"]) for one in (ours, theirs))
    np.testing.assert_array_equal(mine.features, other.features)


def test_names_that_others_use(bring, tmp_path):
    np.savez(tmp_path / "theirs.npz", **as_others_do())
    made = import_npz(tmp_path / "theirs.npz", tmp_path / "theirs")
    assert made.notes[:2] == ("image_features is read as features", "targets is read as labels")
    assert {"features are [D N]; they were turned", "text_features are [D C]; they were turned"} < {
        *made.notes
    }
    same_bank(made, bring)


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_a_file_of_pytorch(bring, tmp_path, kind):
    torch = pytest.importorskip("torch")
    tensors = as_others_do()
    words = {name: tensors.pop(name).tolist() for name in ("classnames", "paths")}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in tensors.items()}
    tensors["image_features"] = tensors["image_features"].to(getattr(torch, kind))
    torch.save({**tensors, **words, "logit_scale": 100.0}, tmp_path / "theirs.pt")
    made = import_npz(tmp_path / "theirs.pt", tmp_path / "theirs")
    assert made.bank.manifest["data"]["spec"] == "pt:theirs.pt"
    same_bank(made, bring)


def test_nothing_in_a_file_of_pytorch_is_run(tmp_path):
    torch = pytest.importorskip("torch")

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"features": torch.zeros(2, 2), "labels": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(UserError, match=r"bomb\.pt is refused"):
        import_npz(tmp_path / "bomb.pt", tmp_path / "bank")
    assert not (tmp_path / "touched").exists()


def test_the_own_name_counts_before_another(bring):
    made = bring(feats=np.ones((6, 4), np.float16), split=None)
    assert not any("feats" in note for note in made.notes)


def test_lists_beside_tensors_are_read_of_any_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    held = {"features": torch.eye(6), "labels": [0, 1, 0, 1, 0, 1], "classnames": ["cat", "dog"]}
    made = []
    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pt"
        torch.save(held, path, _use_new_zipfile_serialization=zipped)
        made.append(import_npz(path, tmp_path / f"bank{zipped}").bank)
    for bank in made:
        assert bank.class_names == ("cat", "dog")
        assert bank.labels.tolist() == [0, 1, 0, 1, 0, 1]
        np.testing.assert_array_equal(bank.features, np.eye(6)[None])
