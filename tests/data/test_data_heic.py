"""HEIC, with the extra that reads it and without."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fsclip_jax.cli.main import main
from fsclip_jax.data.folder import list_pictures, open_folder
from fsclip_jax.data.left_out import count_kinds, passed_over, shown
from fsclip_jax.data.pictures import decode_image, read_image
from fsclip_jax.data.source import UnreadableImage
from fsclip_jax.errors import UserError
from fsclip_jax.pixels import reads_heic

HEIC = b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00mif1heic"
"""How such a file begins."""

AUDITED = """
import sys
from pathlib import Path
from fsclip_jax.data.pictures import read_image
from fsclip_jax.pixels import reads_heic
assert reads_heic()
told = []
sys.addaudithook(lambda event, _: event in ("subprocess.Popen", "os.system", "os.posix_spawn",
                 "os.fork", "os.exec", "socket.connect") and told.append(event))
print(read_image(Path(sys.argv[1]), "a").size, told)
"""


@pytest.fixture
def without(monkeypatch):
    """As if the extra was not installed."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    reads_heic.cache_clear()
    yield
    reads_heic.cache_clear()


@pytest.fixture
def photo():
    """A picture whose left half is red and whose right half is blue."""
    pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    assert reads_heic()
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :32, 0] = pixels[:, 32:, 2] = 200
    return Image.fromarray(pixels)


def heic(image, **options):
    file = io.BytesIO()
    image.save(file, "HEIF", quality=95, **options)
    return file.getvalue()


def red(image):
    return (np.asarray(image)[..., 0] > 100).mean(0) > 0.5


def test_a_photograph_is_read_whatever_it_is_called(photo, tmp_path):
    for name in ("a.heic", "b.HEIF", "c.hif", "d.jpg"):
        (tmp_path / name).write_bytes(heic(photo))
        for reading in ("upright", "clip"):
            image = read_image(tmp_path / name, name, reading, at_least=8)
            assert (image.mode, image.size) == ("RGB", (64, 48))
            assert red(image).tolist() == [True] * 32 + [False] * 32
    assert len(list_pictures([tmp_path])) == 4


def test_it_is_turned_once(photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decode_image(heic(photo, exif=exif.tobytes()), "a", "upright")
    assert upright.size == (48, 64)
    assert (np.asarray(upright)[:32, :, 0] > 100).mean() > 0.9  # its left is the top now


def test_no_program_is_started_for_one(photo, tmp_path):
    (tmp_path / "a.heic").write_bytes(heic(photo))
    run = subprocess.run(
        [sys.executable, "-c", AUDITED, str(tmp_path / "a.heic")], capture_output=True, text=True
    )
    assert run.stdout == "(64, 48) []\n", run.stderr


def test_a_spoilt_one_is_told_and_other_heif_is_not_opened_so(photo):
    data = heic(photo)
    for spoilt in (data[:100], data[:-200], data[:60] + bytes(len(data) - 60)):
        with pytest.raises(UnreadableImage):
            decode_image(spoilt, "a")
    # Its reader is asked of HEVC alone: not of what only says that it is HEIF.
    with pytest.raises(UnreadableImage, match="no picture: none of PNG, JPEG"):
        decode_image(data[:8] + b"mif1" + bytes(4) + b"mif1miaf" + data[24:], "a")


@pytest.mark.usefixtures("without")
def test_without_the_extra_they_are_counted_and_it_is_named(tmp_path):
    for name in ("x/1.png", "x/2.heic", "x/3.HEIF", "x/4.mov", "y/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("png"):
            Image.new("RGB", (4, 4)).save(tmp_path / name)
        else:
            (tmp_path / name).write_bytes(HEIC)
    passed, hint = {}, "(install fsclip-jax[heic])"
    assert len(list_pictures([tmp_path], passed)) == 2
    assert count_kinds(passed) == {".heic": 1, ".heif": 1, ".mov": 1}
    assert shown(count_kinds(passed)) == f"1 .heic {hint}, 1 .heif {hint}, 1 .mov"
    assert hint in next(iter(passed_over(passed)))
    data = open_folder(tmp_path)
    assert data.left_out == count_kinds(passed)
    assert any(hint in note for note in data.notes)
    with pytest.raises(UserError, match=r"2.heic is no picture .*; install fsclip-jax\[heic\] for"):
        list_pictures([tmp_path / "x" / "2.heic"])
    with pytest.raises(
        UnreadableImage, match=r"HEIC, .* pip install pillow-heif .fsclip-jax\[heic\]"
    ):
        decode_image(HEIC, "photo.jpg")
    (tmp_path / "y" / "1.png").rename(tmp_path / "y" / "1.heic")
    with pytest.raises(UserError, match=r"class y; .* 2 .heic \(install fsclip-jax\[heic\]\)"):
        open_folder(tmp_path)


@pytest.mark.usefixtures("without")
def test_the_command_tells_what_it_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FSCLIP_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for name in ("s/x/1.png", "s/y/1.png", "q/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / name)
    for name in ("s/x/1.heic", "s/y/notes.txt", "q/1.heic", "q/2.heic"):
        (tmp_path / name).write_bytes(HEIC)
    (tmp_path / "s/y/bad.jpg").write_bytes(HEIC)
    words = ["--support", str(tmp_path / "s"), "--images", str(tmp_path / "q"), "--method"]
    words += ["prototype", "--backbone", "mini", "--out", str(tmp_path / "out.csv")]
    assert main(["predict", *words]) == 0
    told = capsys.readouterr().out.splitlines()
    hint = "(install fsclip-jax[heic])"
    assert f"left out of --support: 1 .heic {hint}, 1 .txt, 1 unreadable file" in told
    assert f"left out of --images: 2 .heic {hint}" in told
    report = json.loads((tmp_path / "out.report.json").read_text())
    assert report["left_out"] == {
        "support": {".heic": 1, ".txt": 1, "unreadable files": 1},
        "images": {".heic": 2},
    }
