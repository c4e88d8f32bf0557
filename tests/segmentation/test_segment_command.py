"""`fsclip segment` end to end on a few small scenes, and the mistakes a user can make."""

import json
import os
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from fsclip_jax.adapters.catalog import get_adapter
from fsclip_jax.adapters.checkpoint import save_adapter
from fsclip_jax.cli.main import main
from fsclip_jax.clip.load import load_clip
from fsclip_jax.durable import only_writer
from fsclip_jax.errors import UserError
from fsclip_jax.scenes.build import build_scenes
from fsclip_jax.segmentation import prepare, run
from fsclip_jax.segmentation.annotated import leave_out_unreadable, read_split
from fsclip_jax.segmentation.config import SegmentConfig
from fsclip_jax.segmentation.run import gather_methods


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("segment") / "scenes"
    build_scenes(out, images=2, per_half=2)
    return out


@pytest.fixture(scope="module")
def result(scenes):
    out = scenes.parent / "out"
    words = [
        "--methods",
        "tip_adapter",
        "zero_shot",
        "--shots",
        "1",
        "2",
        "--seeds",
        "2",
        "--windows",
        "128",
    ]
    assert main(["segment", "--scenes", str(scenes), "--out", str(out), *words]) == 0
    return json.loads((out / "report.json").read_text())


def row_of(result, split, method, shots):
    (row,) = (
        row
        for row in result["rows"]
        if (row["split"], row["method"], row["shots"]) == (split, method, shots)
    )
    return row


def test_the_file_says_what_was_measured(result):
    assert (result["schema"], result["kind"], result["data"]["n_query"]) == (2, "segment", 2)
    places = [(row["split"], row["method"], row["shots"]) for row in result["rows"]]
    assert places == [
        (split, method, shots)
        for split in ("novel", "base", "background")
        for method in ("zero_shot", "tip_adapter")
        for shots in (1, 2)
    ]
    assert [one["novel"] for one in result["data"]["classes"]] == [False, False, True, True]
    assert result["settings"]["windows"] == [128]
    for one in result["data"]["class_iou"]:
        ious = one["background_and_classes"]
        assert len(ious) == 5
        novel = row_of(result, "novel", one["method"], one["shots"])["metrics"]["miou"]
        assert len(novel["per_seed"]) == 2
        # The two novel classes come last, behind background and the two base classes.
        known = [value for value in ious[3:] if value is not None]
        assert np.mean(known) == pytest.approx(novel["mean"], abs=1e-3)
        background = row_of(result, "background", one["method"], one["shots"])["metrics"]["miou"]
        assert background["mean"] == pytest.approx(ious[0], abs=1e-5)
        assert ious[0] > 20  # percent


def test_a_broken_picture_costs_itself(scenes, tmp_path, capsys):
    folder, out = tmp_path / "scenes", tmp_path / "out"
    shutil.copytree(scenes, folder)
    (folder / "test" / "images" / "000001.png").write_bytes(b"no picture")
    (folder / "masks" / "support" / "000001.png").unlink()
    Image.new("P", (9, 9)).save(folder / "masks" / "train" / "000001.png")
    words = ["segment", "--scenes", str(folder), "--out", str(out), "--methods", "ridge"]
    words += ["--shots", "1", "--seeds", "1", "--windows", "128", "--no-segments"]
    assert main(words) == 2  # the only picture of train
    assert "no picture of train can be used: " in capsys.readouterr().err
    shutil.copy(scenes / "masks" / "train" / "000001.png", folder / "masks" / "train")
    assert main(words) == 0
    told = capsys.readouterr().err
    assert "1 pictures of test are left out: " in told
    report = json.loads((out / "report.json").read_text())
    names = {"test": ["000001.png"], "support": ["000001.png"]}
    assert report["settings"]["left_out"] == names
    assert report["data"]["n_query"] == 1


@pytest.mark.skipif(os.name == "nt", reason="locks are POSIX")
def test_a_second_writer_is_refused(scenes, tmp_path, capsys):
    with only_writer(tmp_path, ".segment.lock", "is segmenting", "--out"):
        assert main(["segment", "--scenes", str(scenes), "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "another run (process " in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_extreme_pictures_are_left_out(scenes, tmp_path, capsys):
    folder = tmp_path / "scenes"
    shutil.copytree(scenes, folder)
    for name, size in (("000001", (1, 40_000)), ("000002", (2_000, 2_000))):
        Image.new("RGB", size).save(folder / "test" / "images" / f"{name}.png")
        Image.new("P", size).save(folder / "masks" / "test" / f"{name}.png")
    words = ["segment", "--scenes", str(folder), "--out", str(tmp_path / "o"), "--shots", "1"]
    assert main([*words, "--windows", "64"]) == 2
    told = capsys.readouterr().err
    assert "no picture of test can be used: " in told
    assert "000001.png of 1 x 40000 pixels is too large" in told


def test_a_stopped_run_goes_on(scenes, tmp_path, monkeypatch, capsys):
    words = ["segment", "--scenes", str(scenes), "--out", str(tmp_path), "--methods", "ridge"]
    words += ["--shots", "1", "--seeds", "1", "--windows", "128"]
    calls = []
    for name in ("dense_features", "cut_segments"):
        real = getattr(prepare, name)
        monkeypatch.setattr(
            prepare, name, lambda *a, name=name, real=real: calls.append(name) or real(*a)
        )
    with monkeypatch.context() as patch:
        patch.setattr(run, "write_report", None)
        with pytest.raises(TypeError):
            main(words)
    first = list(calls)
    assert set(first) == {"dense_features", "cut_segments"}
    assert main(words) == 0
    assert "going on: " in capsys.readouterr().err
    assert calls == first
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_zero_shot_does_not_depend_on_the_support(result):
    one, two = (row_of(result, "novel", "zero_shot", shots) for shots in (1, 2))
    assert one["metrics"]["miou"] == two["metrics"]["miou"]
    assert one["metrics"]["miou"]["ci95"] == 0
    tip = row_of(result, "novel", "tip_adapter", 2)
    expected = tip["metrics"]["miou"]["mean"] - two["metrics"]["miou"]["mean"]
    assert tip["versus"]["zero_shot"]["miou"]["mean"] == pytest.approx(expected, abs=1e-5)


def test_what_a_fit_costs_is_measured_as_in_every_comparison(result):
    for row in result["rows"]:
        assert row["metrics"]["fit_seconds"]["mean"] > 0
        assert row["metrics"]["state_bytes"]["mean"] >= 4


def test_scalars_are_chosen_on_val(result):
    for row in result["rows"]:
        if row["method"] == "tip_adapter":
            assert row["selection"]["split"] == "val"
            assert row["saw"] == ["shots", "val"]


@pytest.mark.usefixtures("result")
def test_its_pages_are_drawn_again_from_the_report_alone(scenes, tmp_path, capsys):
    out = scenes.parent / "out"
    assert main(["report", str(out), "--out", str(tmp_path)]) == 0
    assert "Novel classes" in capsys.readouterr().out
    for name in ("report.md", "report.html", "miou.svg"):
        assert (tmp_path / name).read_text() == (out / name).read_text()
    assert "labelled objects per class" in (out / "report.md").read_text()


def test_a_trained_method_stands_beside_its_untrained_self(tmp_path):
    clip = load_clip("mini")
    adapter = get_adapter("meta_adapter")
    params = adapter.init(jax.random.key(3), clip.embed_dim)
    about = {"backbone": clip.id, "dim": clip.embed_dim}
    save_adapter(tmp_path, "meta_adapter", params, about, adapter=adapter)

    def names(given, checkpoints):
        config = SegmentConfig(tmp_path, tmp_path, methods=given, checkpoint=checkpoints)
        return [method.name for method in gather_methods(config, clip).methods]

    both = ["meta_adapter", "meta_adapter_untrained"]
    assert names(("gda", "zero_shot"), (tmp_path,)) == ["zero_shot", "gda"]
    assert names(("meta_adapter", "zero_shot"), ()) == ["zero_shot", "meta_adapter_untrained"]
    assert names(("zero_shot", "meta_adapter"), (tmp_path,)) == ["zero_shot", *both]


def test_truth_is_read_as_positions_in_the_list_of_classes(scenes):
    split = read_split(scenes, "test")
    present = {one.category for one in split.objects if one.image == 1}
    assert set(np.unique(split.truth(0)).tolist()) == {0, *present}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", "tip_adpter"], "tip_adapter"),
        (["--shots", "99"], "at most 8 objects"),
        (["--methods", "coop"], "leave coop out"),
        (["--shots", "0"], "--shots"),
        (["--windows", "2"], "--windows"),
        (["--backbone", "nothing-like-it.safetensors"], "backbone"),
    ],
)
def test_mistakes_are_told_in_a_line(scenes, tmp_path, capsys, words, said):
    code = main(["segment", "--scenes", str(scenes), "--out", str(tmp_path), *words])
    error = capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(error) == 1
    assert said in error[0]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"categories": 1}', '{"images": [1]}'])
def test_a_damaged_file_is_named(tmp_path, capsys, text):
    (tmp_path / "test.json").write_text(text)
    assert main(["segment", "--scenes", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "test.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("categories", {"id": 300}, "ids from 1 to 255"),
        ("categories", {"novel": None}, "have 'novel'"),
        ("annotations", {"segmentation": [[1, 2, 3, 4]]}, r"at `\$.annotations\[0\].segmentation`"),
        ("annotations", {"image_id": 99}, "image 99, which"),
        ("images", {"file_name": "../../x.png"}, "below the folder"),
    ],
)
def test_records_that_are_no_scenes_are_refused(scenes, tmp_path, part, change, said):
    tree = json.loads((scenes / "val.json").read_text())
    if "id" in change:
        tree["annotations"] = []
    tree[part][0].update(change)
    (tmp_path / "val.json").write_text(json.dumps(tree))
    with pytest.raises(UserError, match=said) as error:
        read_split(tmp_path, "val")
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_named(tmp_path, capsys):
    assert main(["segment", "--scenes", str(tmp_path / "no"), "--out", str(tmp_path)]) == 2
    assert "fsclip scenes" in capsys.readouterr().err


def test_a_mask_of_an_object_is_as_large_as_its_picture(scenes, tmp_path, capsys):
    folder = tmp_path / "scenes"
    shutil.copytree(scenes, folder)
    whole = json.loads((folder / "test.json").read_text())
    whole["annotations"][0]["segmentation"]["size"] = [10**9, 10**9]
    (folder / "test.json").write_text(json.dumps(whole))
    rest, left_out = leave_out_unreadable(read_split(folder, "test"), lambda *_: False)
    assert len(rest.images) == len(whole["images"]) - 1
    assert len(left_out) == 1
    assert "an object's mask 1000000000 x 1000000000" in capsys.readouterr().err
