"""Hostile names of folders, pictures and classes, through every command into every file."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from xml.dom import minidom

import numpy as np
import pytest
from PIL import Image

from fsclip_jax.cli.main import main
from fsclip_jax.export import predictor

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux"),
]

CLASSES = (
    *("caf\udce9", "caf\udce8", "\x1b[31mred\x1b[0m", "a\rb", "\u202egpj", "\ufeffbom", "del\x7f"),
    *("<script>alert(1)<\\script>", "](javascript:x)`*_|~", "$\\frac$ #0a0b0f", "=cmd|'x'!A0"),
)
PICTURES = (
    "1.png",
    "b\rc\n.png",
    "caf\udce9.png",
    "=1+1.png",
    "-2\x1b[2J.png",
    "\u2028.png",
    "7.png",
)
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

WRITTEN = (
    "bank/manifest.json", "imported/manifest.json", "export/README.md",
    "caf\udce9.csv", "caf\udce9.report.json",
    "export/classifier.json", "export/predictor.py", "predicted.txt", "said.txt",
    *(f"{run}/report.{kind}" for run in ("eval", "detect") for kind in ("json", "md", "html")),
    "eval/accuracy.svg", "detect/ap.svg", "detect/zero_shot.0.json", "detect/zero_shot.1.json",
    "proposals/images.json",
    "proposals/proposals.json", "suite/suite.json", "suite/suite.md", "suite/suite.html",
    "train/config.json", "train/adapter.json", "train/metrics.jsonl",
)  # fmt: skip


def write_pictures(root):
    rng = np.random.default_rng(0)
    for name in CLASSES:
        os.makedirs(root / name)
        for picture in PICTURES:
            page = Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
            page.save(root / name / picture, "PNG")


def write_scenes(folder):
    """One picture a split, with an object of each class."""
    side = 32 * len(CLASSES)
    names = [name.encode("utf-8", "replace").decode() + str(i) for i, name in enumerate(CLASSES)]
    categories = [{"id": 1 + i, "name": n, "novel": i > 4} for i, n in enumerate(names)]
    boxes = [
        {"id": i, "image_id": 1, "category_id": 1 + i, "bbox": [32 * i, 4, 24, 24]}
        for i in range(len(CLASSES))
    ]
    for split in ("test", "val", "support"):
        (folder / split / "images").mkdir(parents=True)
        page = Image.fromarray(np.random.default_rng(1).integers(0, 255, (32, side, 3), np.uint8))
        page.save(folder / split / "images" / "a\rb.png", "PNG")
        image = {"id": 1, "file_name": "a\rb.png", "width": side, "height": 32}
        whole = {"images": [image], "annotations": boxes, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(whole))
        proposals = [{"image_id": 1, "bbox": box["bbox"], "score": 0.5} for box in boxes]
        (folder / f"proposals_{split}.json").write_text(json.dumps(proposals))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder, of a hostile name too, with what every command wrote there."""
    root = tmp_path_factory.mktemp("names") / "\x1b[31m\r$x<b>"
    pictures, scenes = root / "caf\udce9", root / "scenes"
    write_pictures(pictures)
    write_scenes(scenes)
    (root / "plain").mkdir()
    Image.new("RGB", (40, 40)).save(root / "plain" / "b\rc.png")
    np.savez(
        root / "f.npz",
        features=np.eye(4, dtype=np.float32),
        labels=[0, 0, 1, 1],
        text_features=np.eye(4, dtype=np.float32)[:2],
        class_names=["caf\ud800", "\x1b[31m"],
        key=np.array(["a\r", "b\udce9", "\ud800", "=1"]),
        split=["train", "test", "train", "test"],
    )
    bank = ["--data", f"bank:{root / 'bank'}"]
    few = ["--shots", "1", "--seeds", "2", "--methods", "zero_shot"]
    configs = root / "suite.py"
    configs.write_text(
        "from fsclip_jax.suite.config import SuiteConfig\n"
        f"suite = SuiteConfig(data=({bank[1]!r},), methods=('zero_shot',), shots=(1,), seeds=2)\n"
    )
    commands = (
        ["extract", "--data", f"folder:{pictures}", "--out", root / "bank"],
        ["bank", "show", root / "bank"],
        ["bank", "import", "--features", root / "f.npz", "--out", root / "imported"],
        ["bank", "show", root / "imported"],
        ["predict", "--support", pictures, "--images", pictures, "--out", root / "caf\udce9.csv",
         "--safe-csv"],
        ["export", "--format", "stablehlo", "--support", pictures, "--out", root / "export"],
        ["eval", *bank, *few, "--predictions", "--workdir", root / "eval"],
        ["report", root / "eval"],
        ["suite", configs, "--out", root / "suite"],
        ["report", root / "suite"],
        ["detect", "--scenes", scenes, "--out", root / "detect", "--crops", "1", *few],
        ["scenes", "--proposals-for", root / "plain" / "b\rc.png", "--out", root / "proposals"],
        ["train", *bank, "--steps", "2", "--way", "2", "--shot", "1", "--query", "1",
         "--workdir", root / "train"],
        ["predict", "--support", root / "nothing\x1b[2J", "--images", pictures],
        ["eval", "--data", f"folder:{root / 'scenes'}"],
    )  # fmt: skip
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FSCLIP_CACHE", str(root.parent / "cache"))
        patch.setattr(sys, "stdout", said)
        patch.setattr(sys, "stderr", said)
        codes = [main([os.fspath(word) for word in words]) for words in commands]
    (root / "said.txt").write_text(said.getvalue(), newline="")
    assert codes == [0] * (len(commands) - 2) + [2, 2], said.getvalue()
    asked = [os.fspath(pictures / CLASSES[2] / name) for name in PICTURES]
    made = subprocess.run(
        [sys.executable, root / "export" / "predictor.py", "--safe-csv", *asked],
        capture_output=True, check=True,
    )  # fmt: skip
    (root / "predicted.txt").write_bytes(made.stdout)
    return root


class Tags(HTMLParser):
    """The tags of a page, and what its attributes load or run."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes = set(), set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def strings(tree):
    if isinstance(tree, dict):
        return [*tree, *(text for value in tree.values() for text in strings(value))]
    if isinstance(tree, list):
        return [text for value in tree for text in strings(value)]
    return [tree] if isinstance(tree, str) else []


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_can_be_read_and_hides_nothing(root, name):
    path = root / name
    text = path.read_bytes().decode("utf-8")
    assert not FORBIDDEN.search(text.replace("\t", "") if name == "predicted.txt" else text)
    if path.suffix == ".json":
        found = strings(json.loads(text))
        # A path that is opened again, or that a layout of others has, is kept as it is.
        kept = name in ("train/config.json", "train/adapter.json", "proposals/images.json")
        assert kept or not any(FORBIDDEN.search(each) for each in found)
    if path.suffix == ".html":
        page = Tags()
        page.feed(text)
        assert not page.tags & {"script", "iframe", "object", "link", "b\\", "b>"}
        assert not any(each.startswith("on") for each in page.attributes)
    if path.suffix == ".svg":
        minidom.parseString(text.encode())
    if path.suffix == ".md":
        outside = re.sub(r"(`+).*?\1", "", text)
        assert not re.search(r"(?<!\\)<(script|b)|(?<!\\)\]\(java", outside)


def test_every_file_that_a_command_writes_is_among_those(root):
    text = {".json", ".jsonl", ".csv", ".md", ".html", ".svg", ".txt", ".py"}
    places = ("caf\udce9/", "scenes/", "plain/", "suite.py", "suite/cells/", "train/checkpoints/")
    found = {
        str(path.relative_to(root)) for path in root.rglob("*") if path.suffix in text
    }  # fmt: skip
    assert {name for name in found if not name.startswith(places)} == set(WRITTEN)


def test_the_table_has_a_line_a_picture_and_no_formula(root):
    with open(root / "caf\udce9.csv", newline="", encoding="utf-8") as file:
        head, *lines = csv.reader(file)
    assert len(lines) == len(CLASSES) * len(PICTURES) == len({line[0] for line in lines})
    assert {len(line) for line in lines} == {len(head)}
    assert not any(cell.startswith(("=", "+", "-", "@")) for line in lines for cell in line)
    assert {line[1] for line in lines} <= set(
        json.loads((root / "export" / "classifier.json").read_text())["class_names"]
    ) | {"'=cmd|'x'!A0"}


def test_classes_stay_apart_whatever_they_are_called(root):
    for bank in ("bank", "imported"):
        names = json.loads((root / bank / "manifest.json").read_text())["class_names"]
        assert len(set(names)) == len(names)
    assert names == ["caf\\ud800", "\\x1b[31m"]


def test_the_exported_program_is_the_one_that_is_tested(root):
    assert predictor.main.__doc__ in (root / "export" / "predictor.py").read_text()


def test_a_workdir_that_orbax_cannot_write_is_refused_before_anything_is_done(tmp_path, capsys):
    place = tmp_path / "caf\udce9"
    assert main(["train", "--workdir", str(place), "--data", "emoji:food"]) == 2
    assert "caf\\xe9 is no UTF-8" in capsys.readouterr().err
    assert not place.exists()
