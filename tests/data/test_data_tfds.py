"""TFDS data sets, prepared here as ArrayRecord without TensorFlow, and TFDS's own mocking."""

import io
import json
import pickle
import sys

import numpy as np
import pytest
from replicas import encoded

from fsclip_jax.data.catalog import KNOWN_SETS, find_known
from fsclip_jax.data.names import class_names, in_published_order
from fsclip_jax.data.prepared import prepare_command
from fsclip_jax.data.registry import open_source
from fsclip_jax.data.source import UnreadableImage
from fsclip_jax.data.splits import SPLITS, split_by_hash, split_named
from fsclip_jax.errors import UserError

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return tmp_path / "tfds"


def prepare(data_dir, name, version, features, splits, config="", file_format="array_record"):
    """Prepare a real data set, the way `tfds build` does."""

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            del dl_manager
            return {split: self._generate_examples(rows) for split, rows in splits.items()}

        def _generate_examples(self, rows):
            yield from enumerate(rows)

    Tiny.name = name
    tfds.disable_progress_bar()
    builder = Tiny(data_dir=str(data_dir))
    builder.download_and_prepare(file_format=file_format)
    return data_dir / name / config / version


def image(color=(9, 9, 9), kind="JPEG"):
    return io.BytesIO(encoded(color, kind))


def labelled(names, **more):
    label = tfds.features.ClassLabel(names=names)
    return {"image": tfds.features.Image(), "label": label, **more}


def refused(spec):
    with pytest.raises(UserError) as caught:
        open_source(spec)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(spec)
    return message


CALTECH = ["accordion", "airplanes", "background_google", "faces", "faces_easy"]


@pytest.fixture
def caltech(data_dir):
    """Two images of each class in train and in test, named as TFDS names them."""
    text = tfds.features.Text()

    def rows(first):
        return [
            {
                "image": image((40 * label, number, 0)),
                "label": label,
                "image/file_name": f"image_{number:04d}.jpg",
            }
            for label in range(5)
            for number in (first, first + 1)
        ]

    features = labelled(CALTECH, **{"image/file_name": text})
    return prepare(data_dir, "caltech101", "3.0.2", features, {"train": rows(1), "test": rows(3)})


@pytest.mark.usefixtures("caltech")
def test_a_published_set_has_its_published_classes():
    data = open_source("tfds:caltech101")
    assert data.class_names == ("face", "accordion", "airplane")  # CoOp's order, and two left out
    assert len(data) == 12
    assert data.templates == ("a photo of a {}.",)
    assert sorted(data.keys)[0] == "accordion/image_0001.jpg"
    # CoOp drew its split from all images, so without its JSON all of them are split by hash.
    assert np.array_equal(data.splits, split_by_hash(data.keys, data.labels))
    for i, key in enumerate(data.keys):
        red = data.load(i).getpixel((4, 4))[0]
        assert abs(red - 40 * CALTECH.index(key.split("/")[0])) < 8
    assert data.draft
    assert data.load(0, 1).size[0] > 0
    assert "tensorflow" not in sys.modules


@pytest.mark.usefixtures("caltech")
def test_coops_split_is_found_by_file_names(tmp_path):
    content = {
        "train": [["Faces/image_0003.jpg", 0, "face"], ["airplanes/image_0001.jpg", 4, "airplane"]],
        "val": [["Faces/image_0001.jpg", 0, "face"]],
        "test": [["airplanes/image_0004.jpg", 4, "airplane"]],
    }
    path = tmp_path / "split_zhou_Caltech101.json"
    path.write_text(json.dumps(content))
    data = open_source(f"tfds:caltech101@{path}")
    assert data.class_names == ("face", "airplane")
    assert data.keys == tuple(entry[0] for split in SPLITS for entry in content[split])
    assert data.labels.tolist() == [0, 1, 0, 1]
    assert data.splits.tolist() == [0, 0, 1, 2]
    assert [round(data.load(i).getpixel((4, 4))[0] / 40) for i in range(4)] == [3, 1, 3, 1]
    content["test"].append(["airplanes/image_0099.jpg", 4, "airplane"])
    path.write_text(json.dumps(content))
    assert "1 of the 5 images in split_zhou_Caltech101.json" in refused(f"tfds:caltech101@{path}")
    assert "give an existing split file" in _told(f"tfds:caltech101@{tmp_path / 'nowhere.json'}")


def _told(spec):
    with pytest.raises(UserError) as caught:
        open_source(spec)
    return str(caught.value)


@pytest.mark.usefixtures("caltech")
def test_the_loader_goes_to_another_process():
    data = open_source("tfds:caltech101")
    sent = pickle.dumps(data.load)
    assert len(sent) < 5000
    assert pickle.loads(sent)(3).tobytes() == data.load(3).tobytes()


def test_a_record_that_is_spoilt_is_named(data_dir):
    broken = io.BytesIO(encoded()[:200])
    rows = [{"image": one, "label": label} for label in (0, 1) for one in (image(), image())]
    rows[0]["image"] = broken
    features = labelled(["a", "b"])
    prepare(data_dir, "spoilt", "1.0.0", features, {"test": rows})
    data = open_source("tfds:spoilt")
    bad = []
    for i, key in enumerate(data.keys):
        try:
            data.load(i)
        except UnreadableImage as error:
            bad.append((key, error.key))
    assert len(bad) == 1
    assert bad[0][0] == bad[0][1]


def test_any_builder_with_image_and_label(data_dir):
    def rows(n):
        return [{"image": image(kind="PNG"), "label": i % 2} for i in range(n)]

    features = labelled(["hot_dog", "not_hot_dog", "never"])
    for version in ("1.0.0", "1.10.0"):
        prepare(data_dir, "hot_dogs", version, features, {"train": rows(20), "test": rows(4)})
    data = open_source("tfds:hot_dogs")  # the newest
    assert data.class_names == ("hot dog", "not hot dog")  # no image of the third
    assert len(set(data.keys)) == 24
    assert np.bincount(data.splits, minlength=3).tolist() == [16, 4, 4]
    named = [key.split("/")[0] for key in data.keys]
    assert np.array_equal(data.splits, split_named(named, data.keys, data.labels))


def test_cifar(data_dir):
    names = list(class_names(find_known("cifar10")))
    rows = [
        {"image": image(kind="PNG"), "label": i % 10, "id": f"train_{i:05d}"} for i in range(50)
    ]
    features = labelled(names, id=tfds.features.Text())
    prepare(
        data_dir,
        "cifar10",
        "3.0.2",
        features,
        {
            "train": rows,
            "test": [
                {"image": image(kind="PNG"), "label": i, "id": f"test_{i:05d}"} for i in range(10)
            ],
        },
    )
    data = open_source("tfds:cifar10")
    assert data.class_names == tuple(names)
    assert np.bincount(data.splits).tolist() == [40, 10, 10]
    assert set(data.keys) >= {"train_00000", "test_00009"}


def test_of_imagenets_variants_the_classes_with_images_are_kept(data_dir):
    from fsclip_jax.data.names import wordnet_names

    wnids = list(wordnet_names())
    text = tfds.features.Text()
    rows = [{"image": image(), "label": label, "file_name": f"{label}.jpg"} for label in (1, 999)]
    features = labelled(wnids, file_name=text)
    prepare(data_dir, "imagenet_a", "0.1.0", features, {"test": rows})
    data = open_source("tfds:imagenet_a")
    assert data.class_names == ("goldfish", "toilet paper")
    assert sorted(data.keys) == ["n01443537/1.jpg", "n15075141/999.jpg"]
    assert data.splits.tolist() == [2, 2]


def test_configurations(data_dir):
    features = labelled(["a", "b"])
    rows = [{"image": image(), "label": i % 2} for i in range(4)]
    prepare(data_dir, "shapes", "1.0.0", features, {"train": rows}, config="small")
    assert len(open_source("tfds:shapes")) == 4
    prepare(data_dir, "shapes", "1.0.0", features, {"train": rows}, config="large")
    assert "configurations large, small; write tfds:shapes/large" in refused("tfds:shapes")
    assert len(open_source("tfds:shapes/small")) == 4
    assert "did you mean small?" in refused("tfds:shapes/smal")


# --- what a new user gets wrong ---------------------------------------------------------------


@pytest.mark.usefixtures("data_dir")
def test_not_prepared():
    message = refused("tfds:eurosat")
    assert "not prepared in" in message
    assert "tfds build eurosat/rgb:2.0.0 --file_format=array_record" in message
    assert "tfds build mnist --file_format=array_record" in refused("tfds:mnist")


def test_another_version_is_prepared(caltech):
    caltech.rename(caltech.with_name("3.0.1"))
    assert "has version 3.0.1 only; version 3.0.2 is needed" in refused("tfds:caltech101")


def test_prepared_as_tfrecord(caltech):
    info = caltech / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    message = refused("tfds:caltech101")
    assert "is prepared as TFRecord" in message
    assert "tfds build caltech101:3.0.2 --file_format=array_record" in message


def test_a_file_of_the_data_is_missing(caltech):
    next(caltech.glob("*train.array_record*")).unlink()
    assert "cannot be read" in refused("tfds:caltech101")


@pytest.mark.parametrize("file", ["features.json", "dataset_info.json"])
def test_metadata_that_are_cut_short(caltech, file):
    path = caltech / file
    path.write_text(path.read_text()[:30])
    assert "cannot be read" in refused("tfds:caltech101")


@pytest.mark.usefixtures("caltech")
def test_without_the_package_array_record(monkeypatch):
    def absent(*_args, **_kwargs):
        raise ImportError("no array_record")

    monkeypatch.setattr(tfds.core.dataset_builder.DatasetBuilder, "as_data_source", absent)
    assert "needs the package array_record" in refused("tfds:caltech101")


def test_unknown_names(data_dir, caltech):
    del caltech
    assert "did you mean caltech101?" in refused("tfds:caltech10")
    assert "write tfds:oxford_iiit_pet" in refused("tfds:pets")
    assert "use coop:fgvc_aircraft@ROOT" in refused("tfds:fgvc_aircraft")
    assert "TFDS does not have the images of UCF101" in refused("tfds:ucf101")
    assert "TFDS has no builder 'qqqq'" in refused("tfds:qqqq")
    prepare(
        data_dir,
        "my_shapes",
        "1.0.0",
        labelled(["a", "b"]),
        {"train": [{"image": image(), "label": 0}]},
    )
    assert "did you mean my_shapes?" in refused("tfds:my_shape")
    assert "images of one class only, a" in refused("tfds:my_shapes")


def test_no_label(data_dir):
    features = {"image": tfds.features.Image(), "text": tfds.features.Text()}
    prepare(data_dir, "captions", "1.0.0", features, {"train": [{"image": image(), "text": "x"}]})
    assert "needs one Image and one ClassLabel" in refused("tfds:captions")


# --- TFDS itself ------------------------------------------------------------------------------


def test_mocked(caltech):
    """True metadata, records from the mock. TFDS's own random records need TensorFlow."""

    def records(self, split, decoders, **_):
        assert "image" in decoders  # images stay encoded, so that one decoder reads them all
        assert split in self.info.splits
        label = self.info.features["label"].str2int("faces")
        names = [f"{split}_{number:04d}.jpg" for number in range(3)]
        found = [{"label": label, "image/file_name": name.encode()} for name in names]
        found.append({"label": 0, "image/file_name": f"{split}.jpg".encode()})
        return [record | {"image": encoded((80, 0, 0))} for record in found]

    mocked = tfds.testing.mock_data(data_dir=str(caltech), as_data_source_fn=records)
    with mocked:
        data = open_source("tfds:caltech101")
        assert data.class_names == ("face", "accordion")
        assert len(data) == 8
        assert data.load(0).size == (9, 7)
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(
    "known", [known for known in KNOWN_SETS if known.tfds], ids=lambda k: k.name
)
def test_the_table_fits_the_builders_of_tfds(known, tmp_path):
    """Versions, fields and class names are those of the installed TFDS; nothing is downloaded."""
    name = f"{known.tfds.spec}:{known.tfds.version}"
    features = tfds.builder(name, data_dir=str(tmp_path)).info.features
    for field in known.tfds.path.replace("{label}", "").replace("{split}", "").split("{")[1:]:
        assert field.partition("}")[0] in features
    if known.name.startswith("cifar"):  # their names come with the download
        return
    order = in_published_order(features["label"].names, known)
    assert order is not None
    left_out = [name for name, new in zip(features["label"].names, order, strict=True) if new < 0]
    assert {name.casefold() for name in left_out} == {name.casefold() for name in known.dropped}
    assert len(set(order) - {-1}) == len(class_names(known))


def test_the_command_that_prepares(data_dir):
    known = find_known("sun397")
    assert prepare_command(data_dir / "sun397", known).endswith(
        "tfds build sun397/standard-part1-120k:4.0.0 --file_format=array_record"
    )
