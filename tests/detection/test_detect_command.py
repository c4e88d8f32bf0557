"""``fsclip detect`` from files to a report, with proposals and with an OWL-ViT."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fsclip_jax.cli.main import main
from fsclip_jax.data.coco_files import read_boxes
from fsclip_jax.detection import compare, crops, fitting
from fsclip_jax.detection.average_precision import Detections, average_precision
from fsclip_jax.detection.models import in_pixels
from fsclip_jax.detection.owlvit_load import load_owlvit
from fsclip_jax.durable import only_writer

NAMES = ("red heart", "blue circle", "green heart")
COLOURS = ("red", "blue", "green")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A folder as ``fsclip scenes`` makes it: coloured shapes, with boxes that miss a little."""
    folder = tmp_path_factory.mktemp("scenes")
    categories = [{"id": 4 + i, "name": n, "novel": i == 2} for i, n in enumerate(NAMES)]
    for at, split in enumerate(("test", "val", "support")):
        rng = np.random.default_rng(at)
        (folder / split / "images").mkdir(parents=True)
        images, annotations, proposals = [], [], []
        for image in range(4):
            page = Image.fromarray(rng.integers(150, 255, (64, 96, 3), dtype=np.uint8))
            pen = ImageDraw.Draw(page)
            for column in range(3):
                number = int(rng.integers(3)) if image else column
                x, y, side = 32 * column + 4, int(rng.integers(4, 34)), int(rng.integers(18, 26))
                pen.ellipse((x, y, x + side, y + side), fill=COLOURS[number])
                box = [x, y, side, side]
                annotations.append(
                    {"id": len(annotations), "image_id": image, "category_id": 4 + number,
                     "bbox": box}
                )  # fmt: skip
                moved = [x + 1, y - 1, side, side]
                if (split, image) == ("val", 3):
                    continue  # nothing is proposed there
                proposals.append({"image_id": image, "bbox": moved, "score": 0.9})
            if (split, image) != ("val", 3):
                proposals.append({"image_id": image, "bbox": [30, 20, 40, 20], "score": 0.4})
            page.save(folder / split / "images" / f"{image}.png")
            images.append({"id": image, "file_name": f"{image}.png", "width": 96, "height": 64})
        whole = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(whole))
        (folder / f"proposals_{split}.json").write_text(json.dumps(proposals))
    return folder


@pytest.fixture(scope="module")
def result(scenes, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    words = f"detect --scenes {scenes} --out {out} --shots 2 --seeds 2 --crops 1"
    methods = ["--methods", "zero_shot", "tip_adapter", "meta_adapter"]
    assert main([*words.split(), *methods]) == 0
    return out, json.loads((out / "report.json").read_text())


def test_the_report_has_every_method_and_its_intervals(result):
    _, report = result
    assert (report["schema"], report["kind"], report["data"]["n_query"]) == (2, "detect", 4)
    names = ["zero_shot", "tip_adapter", "meta_adapter_untrained"]
    places = [(row["split"], row["method"]) for row in report["rows"]]
    assert sorted(places) == sorted(
        (split, n) for split in ("test", "novel", "base") for n in names
    )
    for row in report["rows"]:
        assert set(row["metrics"]) == {"ap", "ap50", "ap75", "fit_seconds", "state_bytes"}
        assert len(row["metrics"]["ap"]["per_seed"]) == 2
        assert row["selection"]["scoring"]["split"] == "val"
        assert row["saw"] == (["val"] if row["method"] == "zero_shot" else ["shots", "val"])
    by_place = dict(zip(places, report["rows"], strict=True))
    tip = by_place["novel", "tip_adapter"]
    assert tip["selection"]["split"] == "val"
    gain = np.subtract(*(by_place["novel", n]["metrics"]["ap"]["per_seed"] for n in names[1::-1]))
    assert tip["versus"]["zero_shot"]["ap"]["mean"] == pytest.approx(gain.mean(), abs=2e-6)
    assert max(row["metrics"]["ap50"]["mean"] for row in report["rows"]) > 40


def test_its_pages_are_drawn_again_from_the_report_alone(result, tmp_path, capsys):
    out, _ = result
    pages = ("report.md", "report.html", "ap.svg")
    assert main(["report", str(out), "--out", str(tmp_path)]) == 0
    assert "Average precision in %" in " ".join(capsys.readouterr().out.split())
    for name in pages:
        assert (tmp_path / name).read_text() == (out / name).read_text()
    text = (out / "report.md").read_text()
    assert text.startswith("# Few-shot average precision on ")
    assert "labelled boxes per class" in text
    assert "AP50, %" in text


def test_the_report_follows_from_the_detections_beside_it(scenes, result):
    out, report = result
    data = read_boxes(scenes / "test.json")
    categories = {"test": None, "novel": [6], "base": [4, 5]}
    for row in report["rows"]:
        for draw in range(2):
            rows = json.loads((out / f"{row['method']}.{draw}.json").read_text())
            columns = zip(*((r["image_id"], r["category_id"], r["bbox"], r["score"]) for r in rows),
                          strict=True)  # fmt: skip
            told = average_precision(data, Detections(*map(np.array, columns)))
            cells, of = row["metrics"], categories[row["split"]]
            assert cells["ap"]["per_seed"][draw] == pytest.approx(told.mean(of), abs=1e-6)
            assert cells["ap75"]["per_seed"][draw] == pytest.approx(told.mean(of, 0.75), abs=1e-6)
        assert cells["ap"]["mean"] == pytest.approx(np.mean(cells["ap"]["per_seed"]), abs=1e-6)


@pytest.fixture
def broken(scenes, tmp_path):
    """The scenes with a picture of each split spoilt."""
    folder = tmp_path / "broken"
    shutil.copytree(scenes, folder)
    (folder / "test" / "images" / "1.png").write_bytes(b"no picture")
    (folder / "val" / "images" / "0.png").unlink()
    cut = folder / "support" / "images" / "0.png"
    cut.write_bytes(cut.read_bytes()[:500])
    return folder


def test_a_broken_picture_costs_itself(broken, tmp_path, capsys):
    out = tmp_path / "out"
    words = f"detect --scenes {broken} --out {out} --shots 2 --seeds 2 --crops 1"
    assert main([*words.split(), "--methods", "zero_shot", "ridge"]) == 0
    told = capsys.readouterr().err
    for split in ("test", "val", "support"):
        assert f"1 pictures of {split} are left out: " in told
    report = json.loads((out / "report.json").read_text())
    names = {"test": ["1.png"], "val": ["0.png"], "support": ["0.png"]}
    assert report["settings"]["left_out"] == names
    assert (report["data"]["n_query"], report["data"]["n_objects"]) == (3, 9)
    rows = json.loads((out / "ridge.0.json").read_text())
    assert {row["image_id"] for row in rows} == {0, 2, 3}
    # As if the annotations had never had it.
    whole = json.loads((broken / "test.json").read_text())
    whole["images"] = [one for one in whole["images"] if one["id"] != 1]
    whole["annotations"] = [one for one in whole["annotations"] if one["image_id"] != 1]
    (broken / "test.json").write_text(json.dumps(whole))
    boxes = json.loads((broken / "proposals_test.json").read_text())
    boxes = [one for one in boxes if one["image_id"] != 1]
    (broken / "proposals_test.json").write_text(json.dumps(boxes))
    assert (
        main([*words.replace(f"{out}", f"{out}2").split(), "--methods", "zero_shot", "ridge"]) == 0
    )
    assert json.loads((tmp_path / "out2" / "ridge.0.json").read_text()) == rows


@pytest.mark.parametrize("kind", ["another size", "long", "folder"])
def test_a_picture_that_is_not_as_annotated_costs_itself(scenes, tmp_path, capsys, kind):
    folder, out = tmp_path / "scenes", tmp_path / "out"
    shutil.copytree(scenes, folder)
    file = folder / "test" / "images" / "1.png"
    file.unlink()
    if kind == "folder":
        file.mkdir()
    else:
        Image.new("RGB", (96, 63) if kind == "another size" else (1, 65_500)).save(file, "jpeg")
    words = f"detect --scenes {folder} --out {out} --shots 1 --seeds 1 --crops 1 --methods ridge"
    assert main(words.split()) == 0
    assert "1 pictures of test are left out: 1.png: " in capsys.readouterr().err
    left_out = json.loads((out / "report.json").read_text())["settings"]["left_out"]
    assert left_out == {"test": ["1.png"]}


def test_a_folder_of_broken_pictures_is_a_mistake(broken, tmp_path, capsys):
    for file in (broken / "test" / "images").iterdir():
        file.write_bytes(b"")
    assert main(["detect", "--scenes", str(broken), "--out", str(tmp_path / "o")]) == 2
    assert "none of the 4 pictures of test" in capsys.readouterr().err.splitlines()[-1]


def test_a_stopped_run_goes_on_and_changed_inputs_begin_again(
    scenes, tmp_path, monkeypatch, capsys
):
    copy, out = tmp_path / "scenes", tmp_path / "out"
    shutil.copytree(scenes, copy)
    words = f"detect --scenes {copy} --out {out} --shots 1 --seeds 1 --crops 1 --methods ridge"
    monkeypatch.setattr(fitting, "RUN", 8)  # two pictures a part
    looked = []
    real = crops.cut_boxes

    def counted(image, boxes, *rest):
        looked.append(len(boxes))
        return real(image, boxes, *rest)

    monkeypatch.setattr(crops, "cut_boxes", counted)
    with monkeypatch.context() as patch:
        patch.setattr(compare, "write_results", None)  # stopped when all is detected
        with pytest.raises(TypeError):
            main(words.split())
    first = len(looked)
    capsys.readouterr()
    assert main(words.split()) == 0
    assert "going on: " in capsys.readouterr().out
    assert first > 0
    assert len(looked) == first
    assert not [path for path in out.iterdir() if path.name.startswith(".")]

    with monkeypatch.context() as patch:
        patch.setattr(compare, "write_results", None)
        with pytest.raises(TypeError):
            main(words.split())
    (copy / "val" / "images" / "2.png").write_bytes(
        (copy / "val" / "images" / "1.png").read_bytes()
    )
    before = len(looked)
    capsys.readouterr()
    assert main(words.split()) == 0
    assert "beginning again" in capsys.readouterr().out
    assert len(looked) == before + first


def test_an_owlvit_detects_what_pytorch_detects(scenes, owlvit_folder, torch_owlvit, tmp_path):
    torch = pytest.importorskip("torch")
    from transformers.models.owlvit.image_processing_pil_owlvit import OwlViTImageProcessorPil

    folder = owlvit_folder(5)
    words = f"detect --scenes {scenes} --out {tmp_path} --detector owlvit:{folder} --seeds 1"
    assert main([*words.split(), "--methods", "zero_shot", "meta_adapter", "gda"]) == 0
    rows = json.loads((tmp_path / "zero_shot.0.json").read_text())
    ids = load_owlvit(folder).tokenizer([f"a photo of a {name}." for name in NAMES])
    processor = OwlViTImageProcessorPil(size={"height": 40, "width": 40})
    for image in range(4):
        page = Image.open(scenes / "test" / "images" / f"{image}.png")
        with torch.no_grad():
            theirs = torch_owlvit(5)(
                input_ids=torch.tensor(ids).long(),
                pixel_values=torch.tensor(processor(page, return_tensors="np")["pixel_values"]),
            )
        scores = torch.sigmoid(theirs.logits)[0].numpy()
        region, label = np.unravel_index(scores.argmax(), scores.shape)
        best = max((row for row in rows if row["image_id"] == image), key=lambda r: r["score"])
        assert best["score"] == pytest.approx(scores.max(), abs=1e-4)
        assert best["category_id"] == 4 + label
        box = in_pixels(theirs.pred_boxes[0].numpy(), (96, 64))[region]
        assert np.allclose(best["bbox"], box, atol=0.02)
    refined = json.loads((tmp_path / "meta_adapter_untrained.0.json").read_text())
    assert refined != rows


@pytest.mark.skipif(os.name == "nt", reason="locks are POSIX")
def test_a_second_writer_is_refused(scenes, tmp_path, capsys):
    with only_writer(tmp_path, ".detect.lock", "is detecting", "--out"):
        assert main(["detect", "--scenes", str(scenes), "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "another run (process " in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("", "--images is missing"),
        ("--scenes nowhere", "holds no scenes"),
        ("--scenes SCENES --shots 0", "give 1 or more"),
        ("--scenes SCENES --shots 99", "at most 5 boxes"),
        ("--scenes SCENES --crops 0", "--crops"),
        ("--scenes SCENES --detector yolo:x", "accepted is owlvit:FOLDER"),
        ("--scenes SCENES --detector owlvit:x", "there is no folder"),
        ("--scenes SCENES --methods cocoop", "it needs words"),
        ("--scenes SCENES --images nowhere", "is no folder"),
        ("--scenes SCENES --annotations SCENES/proposals_val.json", "no data set of boxes"),
        ("--scenes SCENES --proposals SCENES/test.json", "no list of proposals"),
        (
            "--scenes SCENES --support-annotations SCENES/test.json --support-images TEST",
            "are also judged on",
        ),
    ],
)
def test_mistakes_are_one_line(scenes, tmp_path, capsys, flags, words):
    given = flags.replace("SCENES", str(scenes)).replace("TEST", f"{scenes}/test/images")
    assert main(["detect", *given.split(), "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
