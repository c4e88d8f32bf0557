"""Data sets of the ``datasets`` package: parquet files, folders of pictures, saved tables."""

import os
import pickle
import sys

import numpy as np
import pytest
from replicas import encoded, images_per_class, picture

from fsclip_jax.data.registry import open_source
from fsclip_jax.data.source import UnreadableImage
from fsclip_jax.data.splits import SPLITS
from fsclip_jax.errors import UserError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, no network and no progress bars."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def table(labels, kind, column="label", image="image", **more):
    cells = [{"bytes": encoded((20 * i, 0, 0)), "path": None} for i in range(len(labels))]
    features = datasets.Features({image: datasets.Image(), column: kind, **more})
    rows = {image: cells, column: labels} | dict.fromkeys(more, labels)
    return datasets.Dataset.from_dict(rows, features=features)


NAMES = datasets.ClassLabel(names=["hot_dog", "bun", "never"])


def parquet(folder, **splits):
    (folder / "data").mkdir(parents=True)
    for name, made in splits.items():
        made.to_parquet(str(folder / "data" / f"{name}-00000-of-00001.parquet"))
    return folder


def refused(spec):
    with pytest.raises(UserError) as caught:
        open_source(spec)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(spec)
    return message


def test_parquet(tmp_path):
    made = {"train": table([0, 1] * 5, NAMES), "test": table([1, 0], NAMES)}
    folder = parquet(tmp_path / "food", **made)
    data = open_source(f"hf:{folder}")
    assert data.class_names == ("hot dog", "bun")
    assert images_per_class(data, "train").tolist() == [4, 4]
    assert images_per_class(data, "val").tolist() == [1, 1]
    assert images_per_class(data, "test").tolist() == [1, 1]
    row = data.keys.index("train/0000009")
    assert abs(data.load(row).getpixel((4, 4))[0] - 180) < 8
    assert data.labels[row] == 1
    sent = pickle.loads(pickle.dumps(data.load))
    assert sent(row, 1).mode == "RGB"
    assert open_source(f"hf:{folder}").version == data.version


def test_a_folder_of_pictures(tmp_path):
    for name in ("cat", "dog"):
        for index in range(3):
            picture(tmp_path / "pets" / "train" / name / f"{index}.jpg")
            picture(tmp_path / "pets" / "test" / name / f"{index}.png")
    data = open_source(f"hf:{tmp_path / 'pets'}")
    assert data.class_names == ("cat", "dog")
    assert images_per_class(data, "test").tolist() == [3, 3]
    assert data.load(0).size == (9, 7)
    (tmp_path / "pets" / "train" / "cat" / "0.jpg").unlink()
    with pytest.raises(UnreadableImage, match="train/0000000"):
        data.load(data.keys.index("train/0000000"))


def test_what_systems_leave_is_no_class_and_unread_folders_are_named(tmp_path, monkeypatch):
    for name in ("cat", "dog", "@eaDir", "lost+found", "$RECYCLE.BIN", ".git", "__MACOSX"):
        picture(tmp_path / "pets" / name / "0.jpg")
        picture(tmp_path / "pets" / name / "1.jpg")
    plain = open_source(f"hf:{tmp_path / 'pets'}")
    assert (plain.class_names, len(plain), plain.notes) == (("cat", "dog"), 4, ())
    (tmp_path / "pets" / "owl").mkdir()
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("owl"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    (note,) = open_source(f"hf:{tmp_path / 'pets'}").notes
    assert "passed over 1 unreadable folders" in note
    assert "owl (Permission denied)" in note


def test_why_a_folder_cannot_be_read_is_told(tmp_path):
    picture(tmp_path / "pets" / "caf\udce9" / "0.jpg")
    picture(tmp_path / "pets" / "dog" / "0.jpg")
    assert "surrogates not allowed" in refused(f"hf:{tmp_path / 'pets'}")


def test_a_saved_table(tmp_path):
    table([0, 1, 0, 1], NAMES).save_to_disk(str(tmp_path / "saved"))
    data = open_source(f"hf:{tmp_path / 'saved'}")
    assert len(data) == 4
    assert {SPLITS[split] for split in data.splits} == {"train", "test"}  # two of each: no val


@pytest.mark.parametrize("kind", ["string", "int64"])
def test_labels_that_are_no_class_labels(tmp_path, kind):
    values = ["b", "a", "b", "c"] if kind == "string" else [7, 3, 7, 900]
    made = table(values, datasets.Value(kind))
    data = open_source(f"hf:{parquet(tmp_path / 'x', train=made)}")
    assert data.class_names == (("a", "b", "c") if kind == "string" else ("3", "7", "900"))
    assert data.labels.tolist() == [1, 0, 1, 2]


def test_rows_without_a_label_are_left_out(tmp_path):
    made = {"train": table([0, 1, None, 0], NAMES), "test": table([-1, -1], NAMES)}
    data = open_source(f"hf:{parquet(tmp_path / 'x', **made)}")
    assert data.keys == ("train/0000000", "train/0000001", "train/0000003")
    reds = [data.load(i).getpixel((4, 4))[0] for i in range(3)]
    np.testing.assert_allclose(reds, [0, 20, 60], atol=8)


def test_a_row_without_an_image_is_named(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": NAMES})
    cells = [None, {"bytes": b"no picture", "path": None}, {"bytes": encoded(), "path": None}]
    made = datasets.Dataset.from_dict({"image": cells, "label": [0, 1, 1]}, features=features)
    data = open_source(f"hf:{parquet(tmp_path / 'x', test=made)}")
    for row in (0, 1):
        with pytest.raises(UnreadableImage, match=f"test/000000{row}"):
            data.load(row)
    assert data.load(2).size == (9, 7)


def test_a_name_that_is_known_brings_its_template(tmp_path):
    known = datasets.ClassLabel(names=["AnnualCrop", "River"])
    data = open_source(f"hf:{parquet(tmp_path / 'EuroSAT', train=table([0, 1], known))}")
    assert data.templates == ("a centered satellite photo of {}.",)
    assert data.class_names == ("Annual Crop Land", "River")


def test_other_names_of_columns(tmp_path):
    made = table([0, 1], NAMES, column="fine_label", image="img", coarse_label=NAMES)
    data = open_source(f"hf:{parquet(tmp_path / 'x', train=made)}")
    assert data.class_names == ("hot dog", "bun")


# --- what a new user gets wrong ---------------------------------------------------------------


def test_no_columns_of_images_or_labels(tmp_path):
    made = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})
    message = refused(f"hf:{parquet(tmp_path / 'x', train=made)}")
    assert "one Image and one ClassLabel" in message
    assert "text: Value" in message


def test_an_unknown_repository():
    message = refused("hf:nobody/nothing")
    assert "cannot be loaded" in message
    assert "or a local folder" in message


def test_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "cannot be loaded" in refused(f"hf:{tmp_path / 'empty'}")


def test_one_class(tmp_path):
    made = table([0, 0], NAMES)
    assert "one class only, hot dog" in refused(f"hf:{parquet(tmp_path / 'x', train=made)}")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'fsclip-jax[hf]'" in refused("hf:ethz/food101")


def test_many_images_keep_their_rows(tmp_path):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1], 20)).tolist()
    data = open_source(f"hf:{parquet(tmp_path / 'x', train=table(labels, NAMES))}")
    assert data.labels.tolist() == [labels[int(key[-7:])] for key in data.keys]
    assert np.bincount(data.splits).tolist() == [20, 8, 12]
