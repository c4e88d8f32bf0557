"""Every layout of CoOp's DATASETS.md, as tiny copies."""

import json
import pickle

import pytest
from replicas import JSON_SETS, images_per_class, picture, split_json

from fsclip_jax.cli.main import main
from fsclip_jax.data import catalog
from fsclip_jax.data.catalog import KNOWN_SETS, find_known
from fsclip_jax.data.names import published_classes, wordnet_names
from fsclip_jax.data.prompts import choose_prompts
from fsclip_jax.data.published import CoopFolder, KnownSet, Rn50Accuracies, TfdsBuilder
from fsclip_jax.data.registry import open_source
from fsclip_jax.data.source import UnreadableImage
from fsclip_jax.data.splits import SPLITS
from fsclip_jax.errors import UserError


def refused(spec):
    with pytest.raises(UserError) as caught:
        open_source(spec)
    message = str(caught.value)
    assert "\n" not in message
    return message


def rows_of(name):
    rows, _ = JSON_SETS[name]
    return [
        (f"{key[:-4]}{number}.jpg", label, raw, split)
        for key, label, raw in rows
        for number, split in enumerate(("train", "train", "val", "test"))
    ]


@pytest.mark.parametrize("name", JSON_SETS)
@pytest.mark.parametrize("own_folder", [False, True])
def test_sets_with_a_split_file(tmp_path, name, own_folder):
    known = find_known(name)
    base = tmp_path / known.coop.folder
    split_json(base, known.coop, rows_of(name))
    data = open_source(f"coop:{name}@{base if own_folder else tmp_path}")
    assert data.class_names == JSON_SETS[name][1]
    assert data.templates == known.templates
    assert data.labels.tolist() == [0, 0, 1, 1, 0, 1, 0, 1]  # the label numbers are closed up
    assert [SPLITS[split] for split in data.splits] == ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    first = rows_of(name)[0]
    assert data.keys[0] == first[0]
    assert data.load(0).size == (9, 7)


def test_an_entry_is_all_that_a_new_set_needs(tmp_path, monkeypatch, capsys):
    """No list of class names, no template elsewhere: the split file and the entry say it all."""
    birds = KnownSet(
        "birds",
        "Birds",
        2,
        (2, 1, 1),
        "Finch, Birds, 2026",
        "https://birds",
        CoopFolder("birds", "images", "split.json"),
        TfdsBuilder("birds", "1.0.0", "{file_name}"),
        rule="lower",
        template="a {}, a bird.",
        rn50=Rn50Accuracies(1, 2, 3, 4),
    )
    monkeypatch.setattr(catalog, "KNOWN_SETS", (*KNOWN_SETS, birds))
    rows = [("a.jpg", 0, "Wren", "train"), ("b.jpg", 0, "Wren", "test")]
    split_json(tmp_path / "birds", birds.coop, [*rows, ("c.jpg", 1, "Owl", "test")])
    data = open_source(f"coop:birds@{tmp_path}")
    assert data.class_names == ("wren", "owl")
    assert choose_prompts(data).each == (("a wren, a bird.",), ("a owl, a bird.",))
    assert len(choose_prompts(data, "ensemble").each[0]) == 8
    assert published_classes(data.labels, ("Owl", "Wren"), birds)[1] == ("Owl", "Wren")
    assert main(["datasets", "birds"]) == 0
    said = capsys.readouterr().out
    assert "classes: 2, named by the images" in said
    assert "gda 4.00" in said


def test_the_same_split_has_the_same_version_wherever_it_lies(tmp_path):
    known = find_known("dtd")
    for place in ("one", "two"):
        split_json(tmp_path / place / "dtd", known.coop, rows_of("dtd"))
    one, two = (open_source(f"coop:dtd@{tmp_path / place}") for place in ("one", "two"))
    assert one.version == two.version
    split_json(tmp_path / "two" / "dtd", known.coop, rows_of("dtd")[:-1])
    assert open_source(f"coop:dtd@{tmp_path / 'two'}").version != one.version


def test_other_spellings_of_a_name(tmp_path):
    known = find_known("dtd")
    split_json(tmp_path / "dtd", known.coop, rows_of("dtd"))
    assert open_source(f"coop:DescribableTextures@{tmp_path}").class_names[0] == "banded"


def test_the_loader_goes_to_another_process(tmp_path):
    split_json(tmp_path / "dtd", find_known("dtd").coop, rows_of("dtd"))
    data = open_source(f"coop:dtd@{tmp_path}")
    load = pickle.loads(pickle.dumps(data.load))
    assert load(1).tobytes() == data.load(1).tobytes()
    assert data.draft


# --- sets without a split file ----------------------------------------------------------------


@pytest.fixture
def aircraft(tmp_path):
    base = tmp_path / "fgvc_aircraft"
    lists = {"train": "0034309 707-320\n1 F-16A/B\n", "val": "2 707-320\n", "test": "3 F-16A/B\n"}
    for split, text in lists.items():
        base.mkdir(exist_ok=True)
        (base / f"images_variant_{split}.txt").write_text(text)
    (base / "variants.txt").write_text("707-320\nBoeing 717\nF-16A/B\n")
    for index, key in enumerate(("0034309", "1", "2", "3")):
        picture(base / "images" / f"{key}.jpg", color=(index * 50, 0, 0))
    return tmp_path


def test_fgvc_aircraft(aircraft):
    data = open_source(f"coop:fgvc_aircraft@{aircraft}")
    assert data.class_names == ("707-320", "F-16A/B")  # the Boeing 717 has no image here
    found = {
        key: (int(label), SPLITS[split])
        for key, label, split in zip(data.keys, data.labels, data.splits, strict=True)
    }
    assert found == {
        "0034309.jpg": (0, "train"),
        "1.jpg": (1, "train"),
        "2.jpg": (0, "val"),
        "3.jpg": (1, "test"),
    }
    assert data.templates == ("a photo of a {}, a type of aircraft.",)


def test_fgvc_aircraft_with_an_unknown_variant(aircraft):
    (aircraft / "fgvc_aircraft" / "images_variant_val.txt").write_text("2 Zeppelin\n")
    assert "'Zeppelin', which is not in variants.txt" in refused(f"coop:aircraft@{aircraft}")


def test_fgvc_aircraft_with_a_path_for_an_image(aircraft):
    (aircraft / "fgvc_aircraft" / "images_variant_val.txt").write_text("../2 707-320\n")
    assert "wrong image '../2'" in refused(f"coop:aircraft@{aircraft}")


def test_fgvc_aircraft_without_its_lists(aircraft):
    (aircraft / "fgvc_aircraft" / "variants.txt").unlink()
    assert "cannot read" in refused(f"coop:aircraft@{aircraft}")


def test_imagenet(tmp_path):
    images = tmp_path / "imagenet" / "images"
    for wnid in ("n01440764", "n01443537"):
        for part, count in (("train", 2), ("val", 1)):
            for index in range(count):
                picture(images / part / wnid / f"{wnid}_{index}.JPEG", format="JPEG")
    data = open_source(f"coop:imagenet@{tmp_path}")
    assert data.class_names == ("tench", "goldfish")
    assert images_per_class(data, "train").tolist() == [2, 2]
    assert images_per_class(data, "val").tolist() == [0, 0]
    assert images_per_class(data, "test").tolist() == [1, 1]
    assert data.keys[0] == "train/n01440764/n01440764_0.JPEG"
    assert data.load(0).mode == "RGB"
    names = [
        f"{wnid} {'my fish' if wnid == 'n01440764' else name}"
        for wnid, name in wordnet_names().items()
    ]
    (tmp_path / "imagenet" / "classnames.txt").write_text("\n".join(names))
    again = open_source(f"coop:imagenet@{tmp_path}")
    assert again.class_names == ("my fish", "goldfish")
    assert again.version != data.version
    (tmp_path / "imagenet" / "classnames.txt").write_text("\n".join(names[:-1]))
    assert "1,000 lines" in refused(f"coop:imagenet@{tmp_path}")
    (tmp_path / "imagenet" / "classnames.txt").unlink()
    (images / "train" / "cats").mkdir()
    assert "the folder 'cats'" in refused(f"coop:imagenet@{tmp_path}")


@pytest.mark.parametrize("name", ["imagenet_a", "imagenet_r", "imagenet_sketch"])
def test_variants_of_imagenet(tmp_path, name):
    known = find_known(name)
    base = tmp_path / known.coop.folder / known.coop.images
    for wnid in ("n01443537", "n15075141"):
        picture(base / wnid / "x.jpg")
    (base / "README.txt").write_text("no folder")
    (base / "n01443537" / "y.jpg").symlink_to(tmp_path / "never fetched")
    data = open_source(f"coop:{name}@{tmp_path}")
    assert data.class_names == ("goldfish", "toilet paper")
    assert data.labels.tolist() == [0, 0, 1]
    assert {SPLITS[split] for split in data.splits} == {"test"}
    with pytest.raises(UnreadableImage, match=r"n01443537/y\.jpg"):
        data.load(1)


def test_imagenet_v2_is_numbered(tmp_path):
    base = tmp_path / "imagenetv2" / "imagenetv2-matched-frequency-format-val"
    for number in ("0", "10", "2"):
        picture(base / number / "x.jpeg")
    data = open_source(f"coop:imagenet_v2@{tmp_path}")
    assert data.class_names == ("tench", "great white shark", "brambling")
    assert data.keys == ("0/x.jpeg", "2/x.jpeg", "10/x.jpeg")
    (base / "1000").mkdir()
    assert "'1000' is no label" in refused(f"coop:imagenet_v2@{tmp_path}")


# --- what a new user gets wrong ---------------------------------------------------------------


@pytest.fixture
def dtd(tmp_path):
    split_json(tmp_path / "dtd", find_known("dtd").coop, rows_of("dtd"))
    return tmp_path


def rewrite(root, change):
    path = root / "dtd" / "split_zhou_DescribableTextures.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_misspelt_name(dtd):
    message = refused(f"coop:caltech10@{dtd}")
    assert "did you mean caltech101?" in message
    assert "accepted are imagenet, caltech101" in message
    assert "unknown data set 'cifar10'" in refused(f"coop:cifar10@{dtd}")


def test_a_wrong_root(tmp_path, dtd):
    assert "there is no folder" in refused(f"coop:dtd@{tmp_path / 'nowhere'}")
    assert "neither eurosat/2750 nor 2750 is in" in refused(f"coop:eurosat@{dtd}")
    assert "write coop:NAME@ROOT" in refused("coop:dtd")
    assert "write coop:NAME@ROOT" in refused("coop:dtd@")


def test_a_missing_split_file(dtd):
    (dtd / "dtd" / "split_zhou_DescribableTextures.json").unlink()
    message = refused(f"coop:dtd@{dtd}")
    assert "split_zhou_DescribableTextures.json is not in" in message
    assert "`fsclip datasets dtd` says what to download" in message


def test_a_split_file_that_names_missing_images(dtd):
    (dtd / "dtd" / "images" / "banded" / "banded_00020.jpg").unlink()
    assert "1 of the 8 images" in refused(f"coop:dtd@{dtd}")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"train": 3}', '{"a": []}', '{"train": []}', "\xff"]
)
def test_a_file_that_is_no_split(dtd, text):
    path = dtd / "dtd" / "split_zhou_DescribableTextures.json"
    path.write_bytes(text.encode("latin-1"))
    assert str(path) in refused(f"coop:dtd@{dtd}")


@pytest.mark.parametrize(
    "entry",
    [
        ["a.jpg", 0],
        ["a.jpg", "0", "a"],
        ["a.jpg", -1, "a"],
        ["a.jpg", True, "a"],
        "a.jpg",
        ["", 0, "a"],
        ["a.jpg", 10**9, "a"],
        [3, 0, "a"],
    ],
)
def test_an_entry_of_another_form(dtd, entry):
    rewrite(dtd, lambda content: content["val"].append(entry))
    message = refused(f"coop:dtd@{dtd}")
    assert "`$.val[2]" in message
    assert "expected is" in message


@pytest.mark.parametrize(
    "key", ["../secret.jpg", "a/../../secret.jpg", "/etc/passwd", "..\\x.jpg", "C:/x.jpg", "a\0b"]
)
def test_a_path_that_leads_out_of_the_folder(dtd, key):
    picture(dtd / "dtd" / "secret.jpg")
    rewrite(dtd, lambda content: content["test"].append([key, 0, "banded"]))
    assert "leads out of the folder" in refused(f"coop:dtd@{dtd}")


@pytest.mark.parametrize(
    "written",
    [
        "{folder}\\{file}",
        "images/{folder}/{file}",
        "dtd/images/{folder}/{file}",
        "./{folder}/{file}",
        "{root}/dtd/images/{folder}/{file}",
        "/home/somebody/data/dtd/images/{folder}/{file}",
        "D:\\data\\dtd\\images\\{folder}\\{file}",
        "{folder}/{other}",
    ],
)
def test_paths_as_other_tools_write_them(dtd, written):
    before = open_source(f"coop:dtd@{dtd}")

    def spell(content):
        for entry in [entry for part in content.values() for entry in part]:
            folder, _, file = entry[0].partition("/")
            other = file.replace(".jpg", ".JPG")
            entry[0] = written.format(folder=folder, file=file, root=dtd, other=other)

    rewrite(dtd, spell)
    after = open_source(f"coop:dtd@{dtd}")
    assert (after.keys, after.version) == (before.keys, before.version)
    assert after.load(0).tobytes() == before.load(0).tobytes()


def test_an_absolute_path_in_a_folder_of_another_name(tmp_path):
    split_json(tmp_path / "mine", find_known("stanford_cars").coop, rows_of("stanford_cars"))
    before = open_source(f"coop:stanford_cars@{tmp_path / 'mine'}")
    file = tmp_path / "mine" / find_known("stanford_cars").coop.split
    content = json.loads(file.read_text())
    for entry in [entry for part in content.values() for entry in part]:
        entry[0] = f"{tmp_path}/mine/{entry[0]}"
    file.write_text(json.dumps(content))
    assert open_source(f"coop:stanford_cars@{tmp_path / 'mine'}").keys == before.keys


def test_an_image_in_two_splits(dtd):
    rewrite(dtd, lambda content: content["test"].append(content["train"][0]))
    assert "listed twice" in refused(f"coop:dtd@{dtd}")


def test_an_entry_twice_in_one_split_counts_once(dtd):
    rewrite(dtd, lambda content: content["train"].append(content["train"][0]))
    assert len(open_source(f"coop:dtd@{dtd}")) == 8


def test_a_label_with_two_names(dtd):
    rewrite(dtd, lambda content: content["test"][0].__setitem__(2, "striped"))
    assert "label 0 is called 'banded' and 'striped'" in refused(f"coop:dtd@{dtd}")


def test_one_class_only(dtd):
    def one(content):
        for split in content:
            content[split] = [entry for entry in content[split] if entry[1] == 0]

    rewrite(dtd, one)
    assert "images of one class only, banded" in refused(f"coop:dtd@{dtd}")


def test_a_picture_that_is_spoilt_is_named_when_it_is_read(dtd):
    (dtd / "dtd" / "images" / "banded" / "banded_00020.jpg").write_bytes(b"no picture")
    data = open_source(f"coop:dtd@{dtd}")
    with pytest.raises(UnreadableImage, match=r"banded/banded_00020\.jpg"):
        data.load(0)
    assert data.load(1).size == (9, 7)


def test_every_layout_of_coop_is_tried_here():
    tried = {"json", "aircraft", "imagenet", "wnid", "numbered"}
    assert tried == {known.coop.layout for known in KNOWN_SETS if known.coop}
