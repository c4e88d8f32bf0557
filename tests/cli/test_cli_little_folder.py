"""A little folder of one's own: what README and docs/data say it takes is what it takes."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsclip_jax.cli.main import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
DATA = (ROOT / "docs" / "data.md").read_text("utf-8")
pytestmark = pytest.mark.slow

QUICK = ["--methods", "zero_shot", "prototype", "--seeds", "2"]


def pictures_needed():
    """Pictures of each class by what they are for, as docs/data says."""
    block = DATA.split("<!-- generated: pictures -->")[1].split("<!-- end -->")[0]
    head, _, counts = (line.strip("|").split("|") for line in block.strip().splitlines())
    return {name: int(count) for name, count in zip(head[1:], counts[1:], strict=True)}


def folder(place, *counts):
    """A class a count, of pictures of noise."""
    rng = np.random.default_rng(0)
    for label, count in enumerate(counts):
        (place / f"class{label}").mkdir(parents=True)
        for at in range(count):
            pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(place / f"class{label}" / f"{at}.png")
    return f"folder:{place}"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FSCLIP_CACHE", str(tmp_path / "cache"))


def train(data):
    return main(["train", "--data", data, "--steps", "1"])


def compare(data, *flags):
    return main(["eval", "--data", data, *QUICK, *flags])


def test_what_readme_says_training_takes(tmp_path, capsys):
    need = pictures_needed()["train"]
    assert f"{need} pictures each to train" in README
    assert train(folder(tmp_path / "enough", *[need] * 4)) == 0
    assert train(folder(tmp_path / "less", *[need - 1] * 4)) == 2
    assert "give more images" in capsys.readouterr().err


def test_what_readme_says_comparing_takes(tmp_path, capsys):
    needed = pictures_needed()
    (shots,) = re.findall(r"(\d+) for `--shots 1 4`", README)
    assert int(shots) == needed["4-shot"]
    assert compare(folder(tmp_path / "enough", *[needed["4-shot"]] * 4), "--shots", "1", "4") == 0
    few = folder(tmp_path / "less", *[needed["4-shot"] - 1] * 4)
    assert compare(few, "--shots", "1", "4") == 2
    assert compare(folder(tmp_path / "three", *[4] * 3), "--shots", "1") == 2
    assert "give four or more, or --protocol full_way" in capsys.readouterr().err


def test_two_pictures_of_one_class_and_one_of_the_other(tmp_path):
    """Enough for the least that README says, and to be classified by."""
    data = folder(tmp_path / "little", 2, 1)
    assert "two with `--protocol full_way --shots 1`" in README
    assert compare(data, "--protocol", "full_way", "--shots", "1") == 0
    words = ["--support", "little", "--images", "little/class0"]
    assert main(["predict", *words]) == 0
