"""The page of predictions: what is on it, that it fits, and that a browser shows it whole."""

import re
from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, browse
from PIL import Image

from fsclip_jax.errors import UserError
from fsclip_jax.prediction.formats import Row
from fsclip_jax.prediction.gallery import (
    MOST_SHOWN,
    Gallery,
    Near,
    gallery_place,
    sections_of,
    write_gallery,
)
from fsclip_jax.prediction.thumbs import data_uri, thumbnails

NASTY = "<script>alert(1)</script>\"'&amp;\r\u202e"


def row(image, label, probability, best=None, other="owl"):
    best = best or label
    ranked = ((best, probability), (other, 1 - probability))
    return Row(str(image), label, ranked, 0.9)


def picture(place, size=(60, 40), colour="red", **how):
    Image.new("RGB", size, colour).save(place, **how)
    return place


def noise(place, seed, size=(400, 300)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(place)
    return place


def decoded(uri):
    return Image.open(BytesIO(b64decode(uri.partition(",")[2]))).convert("RGB")


def page_of(folder, rows, names=("cat", "dog"), labelled=(), **how):
    sections = sections_of(rows, names)
    if labelled:
        near = tuple(Near(number, names[0], 0.5) for number in range(len(labelled)))
        sections = tuple(
            replace(
                section,
                surest=tuple(replace(one, near=near) for one in section.surest),
                least_sure=tuple(replace(one, near=near) for one in section.least_sure),
            )
            for section in sections
        )
    place = folder / "page.html"
    write_gallery(place, Gallery(sections, dict(enumerate(labelled))), **how)
    return place


def test_every_class_begins_with_the_surest_and_with_the_least_sure():
    rows = [row(f"{i}.png", "cat", 0.5 + i / 20) for i in range(9)]
    rows += [row("u.png", "", 0.4, best="dog"), row("d.png", "dog", 0.7)]
    cat, dog, unknown = sections_of(rows, ["cat", "dog"])
    assert [one.name for one in cat.surest] == ["8.png", "7.png", "6.png", "5.png", "4.png"]
    assert [one.name for one in cat.least_sure] == ["0.png", "1.png", "2.png", "3.png"]
    assert [one.name for one in dog.shown] == ["d.png"]
    assert (unknown.label, [one.best for one in unknown.shown]) == ("", ["dog"])


def test_a_class_called_unknown_is_none_of_the_unknown():
    rows = [row("a.png", "unknown", 0.9), row("b.png", "", 0.4, best="unknown")]
    first, second = sections_of(rows, ["unknown", "cat"])[::2]
    assert [one.name for one in first.shown] == ["a.png"]
    assert [one.name for one in second.shown] == ["b.png"]


@pytest.mark.parametrize("most", [0, 1, 2, 7, 20, 100])
def test_of_too_many_the_surest_and_the_least_sure_of_every_class_are_shown(most):
    rows = [row(f"{i}.png", "cat", 0.5 + i / 100) for i in range(30)]
    rows += [row(f"d{i}.png", "dog", 0.5 + i / 100) for i in range(4)]
    cat, dog = sections_of(rows, ["cat", "dog"], most)
    shown = [one.name for each in (cat, dog) for one in each.shown]
    assert len(shown) == len(set(shown)) <= most
    assert len(shown) == min(34, most)
    assert (cat.count, dog.count) == (30, 4)
    if most >= 7:
        assert (cat.surest[0].name, cat.least_sure[0].name) == ("29.png", "0.png")
        assert dog.surest[0].name == "d3.png"


def test_pictures_are_turned_and_laid_on_white(tmp_path):
    half = Image.new("RGB", (80, 80), "red")
    half.paste("blue", (0, 0, 40, 80))
    exif = Image.Exif()
    exif[274] = 3  # upside down
    half.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    Image.new("RGBA", (30, 30), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    (tmp_path / "broken.png").write_bytes(b"none")
    names = ("turned.jpg", "clear.png", "broken.png", "missing.png")
    turned, clear, *others = thumbnails([tmp_path / name for name in names], 64, 9000)
    left = decoded(turned).getpixel((8, 32))
    assert left[0] > 200 > 60 > left[2]
    assert decoded(turned).size == (64, 64)
    assert decoded(clear).getpixel((15, 15)) == (255, 255, 255)
    assert decoded(clear).size == (30, 30)  # nothing is enlarged
    assert others == ["", ""]


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 2), (500, 400)])
@pytest.mark.parametrize("most", [400, 2000, 20000])
def test_a_small_picture_keeps_to_its_bytes(size, most):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    uri = data_uri(Image.fromarray(pixels), 200, most)
    assert len(uri) <= most
    assert decoded(uri).size == (decoded(uri).width,) * 2


def test_a_page_keeps_to_its_bytes_whatever_the_pictures_and_their_names(tmp_path):
    rows = [
        row(noise(tmp_path / f"{'&' * 180}{i}.png", i), "<" * 300, 0.9, other="'" * 300)
        for i in range(40)
    ]
    labelled = [noise(tmp_path / f"l{i}.png", i) for i in range(10)]
    place = page_of(tmp_path, rows, ("<" * 300, "cat"), labelled, most_bytes=400_000)
    assert 250_000 < place.stat().st_size < 400_000
    assert place.read_text().count("data:image/webp") == 50


def test_of_5000_pictures_all_are_there_under_25_megabytes(tmp_path):
    files = [noise(tmp_path / f"{i}.png", i, (40, 40)) for i in range(25)]
    rows = [row(files[i % 25], ("cat", "dog", "")[i % 3], 0.9) for i in range(MOST_SHOWN)]
    place = page_of(tmp_path, rows, labelled=files)
    assert place.stat().st_size < 25_000_000
    text = place.read_text()
    assert text.count("<img ") == 5000
    assert "are shown" not in text


def test_nothing_in_a_name_is_markup(tmp_path):
    file = tmp_path / "a<b>&\r\udce9.png"
    rows = [row(picture(file), NASTY, 0.9, other=NASTY), row(file, "", 0.5, best=NASTY)]
    place = page_of(tmp_path, rows, (NASTY, "dog"), [file])
    text = place.read_text()
    assert "<script" not in text
    assert "a&lt;b&gt;&amp;\\x0d\\xe9.png" in text
    assert "\u202e" not in text
    assert "\r" not in text
    assert re.findall(r"(?:src|href)=\"(?!data:|#)", text) == []


def test_a_page_goes_beside_its_table_and_over_nothing_else(tmp_path):
    table = tmp_path / "birds.csv"
    assert gallery_place((), table) == tmp_path / "birds.html"
    assert gallery_place((tmp_path / "x.html",), table) == tmp_path / "x.html"
    made = page_of(tmp_path, [row(picture(tmp_path / "a.png"), "cat", 0.9)])
    assert gallery_place((made,), table) == made  # a page of ours is drawn again
    (tmp_path / "birds.html").write_text("<!doctype html>my own")
    for given, out in (((), table), ((Path("page.png"),), table), ((), Path("-"))):
        with pytest.raises(UserError):
            gallery_place(given, out)


@pytest.mark.skipif(not CHROMIUM, reason="there is no chromium to open the page with")
def test_a_browser_shows_the_page_whole_on_a_desk_and_on_a_phone(tmp_path):
    long = "W" * 300
    files = [noise(tmp_path / f"{i}{long[:150]}.png", i, (80, 50)) for i in range(30)]
    rows = [row(file, (long, "dog", "")[i % 3], 0.9, other=long) for i, file in enumerate(files)]
    rows += [row(tmp_path / "gone.png", "dog", 0.6)]
    names = (long, "dog", *(f"class {i}" for i in range(50)))
    page = page_of(tmp_path, rows, names, files[:4]).read_text()
    told, console = browse(tmp_path, {"gallery": page}, (1280, 390))
    assert console == []
    assert {each["width"] for each in told} == {1280, 390}
    for each in told:
        assert (each["pictures"], each["broken"]) == (30, 0)
        assert each["wide"] <= each["width"]
        assert each["scripts"] == 1  # what measures
        assert each["headings"] == 4
    (tmp_path / "dark").mkdir()
    told, console = browse(
        tmp_path / "dark", {"gallery": page}, (390,), "--blink-settings=preferredColorScheme=0"
    )
    assert (told[0]["paper"], console) == ("rgb(19, 19, 22)", [])
