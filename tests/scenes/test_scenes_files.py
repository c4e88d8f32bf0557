"""The folder of `fsclip scenes`: COCO's own reader agrees with the pictures of class indices."""

import contextlib
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsclip_jax.cli.main import main
from fsclip_jax.durable import only_writer
from fsclip_jax.errors import UserError
from fsclip_jax.scenes import build, proposals
from fsclip_jax.scenes.build import build_scenes

SPLITS = ("train", "val", "test", "support")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("scenes") / "made"
    build_scenes(out, images=3, per_half=3)
    return out


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("split", SPLITS)
def test_coco_reads_what_the_masks_show(folder, split):
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / f"{split}.json"))
    assert coco.getAnnIds()
    for image in coco.loadImgs(coco.getImgIds()):
        with Image.open(folder / split / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
        with Image.open(folder / "masks" / split / image["file_name"]) as mask:
            truth = np.asarray(mask)
        seen = np.zeros(truth.shape, int)
        for one in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            mask = coco.annToMask(one).astype(bool)
            seen[mask] = one["category_id"]
            rows, columns = np.nonzero(mask)
            x, y, width, height = one["bbox"]
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
            assert one["area"] == mask.sum()
            assert one["iscrowd"] == 0
        np.testing.assert_array_equal(seen, truth)


def test_who_is_where(folder):
    novel = {one["id"] for one in read(folder, "test")["categories"] if one["novel"]}
    used = {s: {a["category_id"] for a in read(folder, s)["annotations"]} for s in SPLITS}
    artists = {s: {a["family"] for a in read(folder, s)["annotations"]} for s in SPLITS}
    assert len(novel) == 3
    assert not used["train"] & novel
    assert not used["val"] & novel
    assert used["test"] & novel
    assert used["support"] == {1, 2, 3, 4, 5, 6}
    assert not artists["support"] & (artists["test"] | artists["val"])
    assert not artists["val"] & artists["test"]


def test_support_shows_every_drawing_twice(folder):
    keys = [one["key"] for one in read(folder, "support")["annotations"]]
    assert all(keys.count(key) == build.PER_DRAWING for key in keys)


def test_proposals_are_of_the_pictures(folder):
    for split in ("train", "val", "test"):
        found = json.loads((folder / f"proposals_{split}.json").read_text())
        assert {one["image_id"] for one in found} == {
            i["id"] for i in read(folder, split)["images"]
        }
        for one in found:
            x, y, width, height = one["bbox"]
            assert min(x, y) >= 0
            assert x + width <= 256
            assert y + height <= 256
            assert 0 < one["score"] <= 1


def test_a_seed_gives_the_same_bytes(folder, tmp_path):
    build_scenes(tmp_path / "again", images=3, per_half=3)
    names = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert names == sorted(
        p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file()
    )
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    rng = np.random.default_rng
    assert rng((0, 1, 2)).random() != rng((1, 1, 2)).random()


def test_a_failure_leaves_what_the_next_run_goes_on_with(folder, monkeypatch, tmp_path, capsys):
    propose, seen = proposals.propose, []

    def fail_at_third(pixels, most):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(1)
        return propose(pixels, most)

    monkeypatch.setattr(proposals, "propose", fail_at_third)
    with pytest.raises(KeyboardInterrupt):
        build_scenes(tmp_path / "out", images=3, per_half=3)
    assert not (tmp_path / "out").exists()
    seen.append(1)
    build_scenes(tmp_path / "out", images=3, per_half=3)
    assert "going on: 5 parts" in capsys.readouterr().out  # two splits and three pictures
    assert len(seen) == 2 + 2 + 3 + 1  # each picture once
    assert contents(tmp_path / "out") == contents(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_other_settings_left_is_not_among_the_files(folder, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(build, "write_proposals", None)
        with pytest.raises(TypeError):
            build_scenes(tmp_path / "out", images=9, per_half=4)
    remove = shutil.rmtree

    def stopped(path, **options):
        if path.name != ".interim":
            raise KeyboardInterrupt
        remove(path, **options)

    with monkeypatch.context() as patch:  # while it removes them
        patch.setattr(shutil, "rmtree", stopped)
        with pytest.raises(KeyboardInterrupt):
            build_scenes(tmp_path / "out", images=3, per_half=3)
    build_scenes(tmp_path / "out", images=3, per_half=3)
    assert contents(tmp_path / "out") == contents(folder)


def contents(place):
    return {p.relative_to(place): p.read_bytes() for p in place.rglob("*") if p.is_file()}


@pytest.mark.skipif(os.name == "nt", reason="locks are POSIX")
def test_a_second_writer_is_refused(folder, tmp_path, capsys):
    with only_writer(tmp_path, ".out.lock", "is making scenes out", "--out"):
        assert main(["scenes", "--out", str(tmp_path / "out"), "--images", "2"]) == 2
    assert "another run" in capsys.readouterr().err
    pictures = str(folder / "val" / "images")
    (tmp_path / "p").mkdir()
    with only_writer(tmp_path / "p", ".scenes.lock", "proposes boxes", "--out"):
        assert main(["scenes", "--out", str(tmp_path / "p"), "--proposals-for", pictures]) == 2
    assert "another run" in capsys.readouterr().err


def test_what_is_there_is_not_overwritten(folder, tmp_path):
    with pytest.raises(UserError, match="exists already"):
        build_scenes(folder, images=2)
    with pytest.raises(UserError, match="--images"):
        build_scenes(tmp_path / "new", images=1)


def test_proposals_for_other_pictures(folder, tmp_path, capsys):
    place = folder / "val" / "images"
    out = tmp_path / "found"
    assert main(["scenes", "--out", str(out), "--proposals-for", str(place)]) == 0
    assert "boxes" in capsys.readouterr().out
    images = json.loads((out / "images.json").read_text())["images"]
    assert [Path(one["file_name"]).name for one in images] == ["000001.png", "000002.png"]
    found = json.loads((out / "proposals.json").read_text())
    # The same pixels give the same boxes.
    assert found == json.loads((folder / "proposals_val.json").read_text())


def test_a_picture_that_is_none_costs_itself(folder, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    given = ["--out", str(tmp_path / "o"), "--proposals-for", str(tmp_path / "bad.png")]
    assert main(["scenes", *given]) == 2
    assert "no picture can be read: " in capsys.readouterr().err
    good = folder / "val" / "images" / "000002.png"
    assert main(["scenes", *given, str(good)]) == 0
    assert "1 pictures cannot be read and are left out: " in capsys.readouterr().err
    images = json.loads((tmp_path / "o" / "images.json").read_text())["images"]
    assert [one["file_name"] for one in images] == [str(good)]
    assert {p.name for p in (tmp_path / "o").iterdir()} == {"images.json", "proposals.json"}
