"""Pictures to probabilities in one artifact, with the answers of ``fsclip predict``."""

import csv
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from datetime import date

import jax
import jaxlib
import numpy as np
import pytest
from emoji_folders import write_emoji
from jax import export
from PIL import Image
from tiny_clip import random_clip

from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.adapters.checkpoint import restore_adapter, save_adapter
from fsclip_jax.cli.main import main
from fsclip_jax.clip.config import (
    ClipConfig,
    ResNetConfig,
    SiglipTextConfig,
    SiglipVisionConfig,
    TextConfig,
    VitConfig,
)
from fsclip_jax.clip.load import load_clip
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.data.folder import list_pictures
from fsclip_jax.data.pictures import read_image
from fsclip_jax.export import predictor
from fsclip_jax.export.run import predictor_program
from fsclip_jax.export.stablehlo import export_classifier
from fsclip_jax.export.torch_zip import torch_archive
from fsclip_jax.features.images import image_encoder
from fsclip_jax.fitting.draws import draws_of
from fsclip_jax.fitting.methods import Method
from fsclip_jax.pixels import reads_heic
from fsclip_jax.prediction.calibrate import Temperature
from fsclip_jax.prediction.classifier import fit_support, probabilities
from fsclip_jax.prediction.images import encode_pixels

CLASSES = 6
# Runs a script with everything but jax, numpy and pillow out of its reach.
ALONE = (
    "import runpy, sys\n"
    "for name in ('fsclip_jax', 'flax', 'optax', 'safetensors', 'transformers', 'scipy.optimize',\n"
    "             'orbax', 'sklearn', 'grain', 'tyro', 'rich', 'jinja2', 'jaxtyping'):\n"
    "    sys.modules[name] = None\n"
    "sys.argv = sys.argv[1:]\n"
    "runpy.run_path(sys.argv[0], run_name='__main__')\n"
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_emoji(tmp_path_factory.mktemp("emoji"), CLASSES)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """An adapter of the bundled CLIP that was not trained: enough to be refined by."""
    adapter, clip = get_adapter("meta_adapter"), load_clip("mini")
    meta = {"backbone": "mini", "backbone_sha256": clip.sha256, "dim": clip.embed_dim}
    params = adapter.init(jax.random.key(0), clip.embed_dim)
    place = tmp_path_factory.mktemp("run")
    save_adapter(place, "meta_adapter", params, meta, adapter=adapter)
    return place


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FSCLIP_CACHE", str(tmp_path_factory.getbasetemp() / "export-cache"))


def answers(folder, paths, *flags):
    run = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder / "predictor.py"), *flags, *paths],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
        cwd=folder,
        timeout=120,
    )
    return run, [line.split("\t") for line in run.stdout.splitlines()]


@pytest.mark.parametrize("method", ["meta_adapter", "auto"])
def test_the_predictor_answers_as_predict_does(pictures, workdir, tmp_path, method):
    support = ["--support", str(pictures / "train")]
    support += ["--method", method] if method == "auto" else []
    table, out = tmp_path / "table.csv", tmp_path / "out"
    asked = ["--images", str(pictures / "test"), "--out", str(table), "--top", "2"]
    workdirs: list[str] = []
    if method == "meta_adapter":  # one of the two is given the same parameters as a state dict
        _, params, _ = restore_adapter(workdir)
        flat = {f"{a}.{b}": np.asarray(x) for a, each in params.items() for b, x in each.items()}
        (tmp_path / "published.pt").write_bytes(torch_archive(flat))
        asked += ["--checkpoint", str(tmp_path / "published.pt")]
        workdirs = ["--checkpoint", str(workdir)]
    assert main(["predict", *support, *asked]) == 0
    assert main(["export", *support, *workdirs, "--format", "stablehlo", "--out", str(out)]) == 0
    with table.open(newline="") as file:
        expected = list(csv.DictReader(file))
    assert len(expected) > 10
    # Moved elsewhere it works all the same, whatever one of the pictures is.
    moved = tmp_path / "moved"
    shutil.move(out, moved)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    phone = tmp_path / "phone.jpg"
    phone.write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heic")
    asked = list_pictures([pictures / "test"])
    run, rows = answers(moved, [asked[0], str(bad), str(phone), *asked[1:]], "--top", "2")
    assert run.returncode == 1, run.stderr
    assert "bad.png cannot be read" in run.stderr
    why = "" if reads_heic() else "HEIC, which needs pip install pillow-heif"
    assert f"phone.jpg cannot be read: {why}" in run.stderr
    for row, line in zip(rows, expected, strict=True):
        assert row[0] == line["image"]
        assert float(row[2]) == pytest.approx(float(line["probability_1"]), abs=2e-4)
        assert float(row[4]) == pytest.approx(float(line["probability_2"]), abs=2e-4)
        if float(row[2]) - float(row[4]) > 1e-3:
            assert row[1] == line["label"]
    card = (moved / "README.md").read_text()
    about = json.loads((moved / "classifier.json").read_text())
    wrote, until = (date.fromisoformat(about[name]) for name in ("exported", "promised_until"))
    assert (until.year - wrote.year) * 12 + until.month - wrote.month == 6
    assert f"with jaxlib {jaxlib.__version__}, which read it at any time" in card
    assert f"none released after {until}" in card
    report = json.loads((tmp_path / "table.report.json").read_text())
    assert report["method"] in card
    right = report["held_out"]["score"]
    assert f"{right['right']} of {right['asked']}, {right['accuracy']:.1f} %" in card
    assert "fsclip export --support" in card
    program = export.deserialize(bytearray((moved / "classifier.stablehlo").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    (pixels,) = program.in_avals
    assert (pixels.dtype, pixels.shape[1:]) == (
        np.uint8,
        (load_clip("mini").image_size,) * 2 + (3,),
    )
    one, evidence = program.call(np.zeros((1, *pixels.shape[1:]), np.uint8))
    assert evidence.shape == (1, 3)
    np.testing.assert_allclose(one.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("unknown", ["auto", "0.6"])
def test_the_predictor_leaves_out_the_unknown_as_predict_does(
    pictures, tmp_path, monkeypatch, capsys, unknown
):
    support = ["--support", str(pictures / "train"), "--method", "prototype"]
    table, out = tmp_path / "table.csv", tmp_path / "out"
    more = write_emoji(tmp_path / "more", 3 * CLASSES) / "test"  # two in three are of none
    words = ["--images", str(more), "--out", str(table), "--unknown", unknown]
    assert main(["predict", *support, *words]) == 0
    assert main(["export", *support, "--format", "stablehlo", "--out", str(out)]) == 0
    with table.open(newline="") as file:
        expected = {line["image"]: line for line in csv.DictReader(file)}
    asked = list_pictures([more])
    words = ["predictor.py", "--model", str(out), "--unknown", unknown, "--top", "2", *asked]
    monkeypatch.setattr(sys, "argv", words)
    capsys.readouterr()
    assert predictor.main() == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == len(expected)
    for path, label, *_, similarity in rows:
        assert label == expected[path]["label"]
        assert float(similarity) == pytest.approx(float(expected[path]["similarity"]), abs=1e-3)
    assert 0 < sum(not label for _, label, *_ in rows) < len(rows)


@pytest.mark.parametrize(
    ("unknown", "change", "said"),
    [
        ("1.5", None, "--unknown is 1.5; give auto, or a probability from 0 to 1\n"),
        ("nan", None, "--unknown is nan; give auto, or a probability from 0 to 1\n"),
        ("all", None, "--unknown is all; give auto, or a probability from 0 to 1\n"),
        ("auto", lambda about: about.pop("familiar"), "--unknown auto has no threshold here:"),
        ("auto", lambda about: about.update(familiar=None), "--unknown auto has no threshold"),
    ],
)
def test_an_unknown_that_is_none_is_one_line(
    exported, tmp_path, monkeypatch, capsys, unknown, change, said
):
    folder, picture = exported
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    if change is not None:
        edit(copy, change)
    words = ["predictor.py", "--model", str(copy), "--unknown", unknown, picture]
    monkeypatch.setattr(sys, "argv", words)
    assert predictor.main() == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert told.err.startswith(said)


@pytest.mark.parametrize(
    ("module", "name"), [("flatbuffers", "flatbuffers"), ("PIL", "pillow"), ("jax", "jax")]
)
def test_the_predictor_says_what_is_missing(tmp_path, module, name):
    short = ALONE.replace("'fsclip_jax', ", f"'fsclip_jax', {module!r}, ")
    (tmp_path / "predictor.py").write_bytes(predictor_program())
    run = subprocess.run(
        [sys.executable, "-c", short, str(tmp_path / "predictor.py"), "--model", "none", "a.png"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (run.returncode, run.stderr) == (2, f"{name} is missing: pip install {name}\n")


@pytest.fixture(scope="module")
def exported(pictures, tmp_path_factory):
    """A small classifier of tiny towers, and a picture."""
    folder = tmp_path_factory.mktemp("exported") / "out"
    words = f"--method prototype --format stablehlo --out {folder} --support".split()
    assert main(["export", *words, str(pictures / "train")]) == 0
    return folder, list_pictures([pictures / "test"])[0]


def cut_program(folder):
    place = folder / "classifier.stablehlo"
    place.write_bytes(place.read_bytes()[:-1000])


def cut_program_of_old(folder):
    edit(folder, lambda about: about.pop("sha256"))
    cut_program(folder)


def swapped(folder):
    exchanged = (folder / "classifier.json").read_bytes()
    (folder / "classifier.json").write_bytes((folder / "classifier.stablehlo").read_bytes())
    (folder / "classifier.stablehlo").write_bytes(exchanged)


def edit(folder, change):
    place = folder / "classifier.json"
    about = json.loads(place.read_text())
    change(about)
    place.write_text(json.dumps(about))


DAMAGES = {
    "program cut": cut_program,
    "program cut, no sum": cut_program_of_old,
    "program empty": lambda folder: (folder / "classifier.stablehlo").write_bytes(b""),
    "program missing": lambda folder: (folder / "classifier.stablehlo").unlink(),
    "swapped": swapped,
    "description missing": lambda folder: (folder / "classifier.json").unlink(),
    "description cut": lambda folder: (folder / "classifier.json").write_bytes(b'{"class_names"'),
    "description nested": lambda folder: (folder / "classifier.json").write_bytes(b"[" * 200_000),
    "a list": lambda folder: (folder / "classifier.json").write_bytes(b"[]"),
    "names lost": lambda folder: edit(folder, lambda about: about["class_names"].pop()),
    "names no list": lambda folder: edit(folder, lambda about: about.update(class_names=3)),
    "another size": lambda folder: edit(folder, lambda about: about.update(image_size=224)),
    "an odd size": lambda folder: edit(folder, lambda about: about.update(image_size="32")),
    "no filter": lambda folder: edit(folder, lambda about: about.pop("resample")),
    "no threshold": lambda folder: edit(folder, lambda about: about.update(familiar={})),
    "a filter that is none": lambda folder: edit(folder, lambda about: about.update(resample="x")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_classifier_is_one_line(exported, damage, tmp_path, monkeypatch, capsys):
    folder, picture = exported
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    damage(damaged)
    monkeypatch.setattr(sys, "argv", ["predictor.py", "--model", str(damaged), picture])
    assert predictor.main() == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"{damaged} holds no classifier that runs here (")
    assert told.err.count("\n") == 1


def test_a_classifier_of_another_format_of_jax_is_one_line(exported, monkeypatch, capsys):
    folder, picture = exported

    def refuse(_):
        raise ValueError("Serialization version 99 is not supported")

    monkeypatch.setattr(export, "deserialize", refuse)
    monkeypatch.setattr(sys, "argv", ["predictor.py", "--model", str(folder), picture])
    assert predictor.main() == 2
    assert "version 99 is not supported): export it again, or take" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("until", "readable", "said"),
    [
        ("2020-02-29", True, "is read, but too late to be sure of: jaxlib 0.4.1 wrote it"),
        ("2020-02-29", False, "in none released after 2020-02-29: export it again, or pip install"),
        ("2999-01-01", True, ""),
        ("2999-01-01", False, "jaxlib 0.4.1 wrote it, this is "),
        ("soon", True, ""),
        ("soon", False, "export it again, or take the jax of its README"),
    ],
)
def test_a_classifier_of_another_jax_says_until_when_it_is_read(
    exported, until, readable, said, tmp_path, monkeypatch, capsys
):
    folder, picture = exported
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    edit(old, lambda about: about.update(jaxlib_version="0.4.1", promised_until=until))
    if not readable:
        (old / "classifier.stablehlo").write_bytes(b"of old")
        edit(old, lambda about: about.pop("sha256"))
    monkeypatch.setattr(sys, "argv", ["predictor.py", "--model", str(old), picture])
    assert predictor.main() == (0 if readable else 2)
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == bool(said)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev/full")
@pytest.mark.parametrize(
    ("where", "code", "said"),
    [
        ("> /dev/full", 2, "standard output cannot be written: No space left on device\n"),
        (">&-", 0, ""),
        ("| true", 0, ""),
    ],
)
def test_the_output_of_the_predictor_may_be_closed_or_full(exported, where, code, said):
    folder, picture = exported
    line = f'set -o pipefail; "$0" "$@" {where}'
    words = ["bash", "-c", line, sys.executable, str(folder / "predictor.py"), picture]
    run = subprocess.run(words, stderr=subprocess.PIPE, text=True, timeout=120)
    assert (run.returncode, run.stderr) == (code, said)


TEXT = TextConfig(64, 8, 16, 1, 2, 32, embed_dim=8)
TOWERS = {
    "vit": ClipConfig(VitConfig(32, 16, 24, 2, 3, 48, embed_dim=8), TEXT),
    "resnet": ClipConfig(ResNetConfig((1, 1, 1, 1), 8, 64, 8, heads=2), TEXT),
    "siglip": ClipConfig(
        SiglipVisionConfig(32, 16, 24, 2, 3, 48), SiglipTextConfig(64, 8, 24, 1, 3, 48, 24)
    ),
}


@pytest.mark.parametrize("tower", TOWERS)
def test_every_kind_of_tower_takes_any_number_of_pictures(tower):
    config = TOWERS[tower]
    clip = random_clip(config)
    rng = np.random.default_rng(0)
    task, _ = example_task(way=4, shot=1, dim=config.embed_dim)
    task = task._replace(logit_scale=np.float32(20))
    draws = draws_of(jax.tree.map(lambda leaf: leaf[None], task))
    fitted = fit_support(draws, "abcd", (Method("zero_shot", get_adapter("zero_shot"), {}),))
    fitted = dataclasses.replace(fitted, temperature=Temperature(2.0, 0, even=0.1))
    program = export.deserialize(bytearray(export_classifier(clip, fitted)))
    encode = image_encoder(clip)
    pixels = rng.integers(0, 256, (3, clip.image_size, clip.image_size, 3), np.uint8)
    expected = probabilities(fitted, encode_pixels(encode, pixels, 3, clip.embed_dim))
    np.testing.assert_allclose(program.call(pixels)[0], expected, atol=2e-3)
    assert expected.std() > 1e-3


def odd_pictures(folder):
    """Pictures of every kind that is read in a way of its own."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (37, 61, 3), np.uint8))
    see_through = Image.fromarray(rng.integers(0, 256, (50, 33, 4), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    colour.save(folder / "turned.jpg", exif=exif)
    colour.save(folder / "plain.png")
    colour.convert("L").save(folder / "grey.png")
    colour.convert("CMYK").save(folder / "print.jpg")
    colour.convert("P").save(folder / "palette.gif")
    colour.convert("1").save(folder / "bits.png")
    see_through.save(folder / "clear.png")
    see_through.save(folder / "clear.webp")
    Image.fromarray(rng.integers(0, 2**16, (40, 40), np.uint16)).save(folder / "deep.png")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("margin", ["floor", "round"])
@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
@pytest.mark.parametrize("edge", [None, 20])
def test_the_predictor_cuts_pictures_as_the_package_does(tmp_path, fit, margin, resample, edge):
    ours = Preprocess(16, fit=fit, odd_margin=margin, resample=resample, edge=edge)
    about = {"image_size": 16, "fit": fit, "odd_margin": margin, "resample": resample, "edge": edge}
    for path in odd_pictures(tmp_path):
        expected = ours.crop(read_image(path, path.name, "upright"))
        cut = predictor.read_picture(str(path), about)
        np.testing.assert_array_equal(cut, expected, err_msg=path.name)
