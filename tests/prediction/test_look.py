"""Look, correct, go on: the page, the folders and the way back, by the commands."""

import csv
import json
import re
import shutil

import pytest
from emoji_folders import write_emoji

from fsclip_jax.cli.main import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_emoji(tmp_path_factory.mktemp("emoji"), 4)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FSCLIP_CACHE", str(tmp_path_factory.getbasetemp() / "look-cache"))


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    shutil.copytree(made / "train", tmp_path / "labelled")
    shutil.copytree(made / "test", tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def predict(*flags):
    words = ["--support", "labelled", "--images", "photos", "--method", "prototype"]
    return main(["predict", *words, *flags])


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def rows(table="predictions.csv"):
    with open(table, newline="") as file:
        return list(csv.DictReader(file))


def test_look_sort_go_on_and_take_it_back(place, capsys):
    before = files(place / "photos")
    assert predict("--html", "--unknown", "0.5") == 0
    page = (place / "predictions.html").read_text()
    assert page.count("<img ") == len(before) == len(rows())
    for row in rows():
        name = row["image"].rpartition("photos/")[2]
        assert f'alt="{name}"' in page
    assert page.count('class="n n') == 3 * len(before)

    # What is corrected in the table is sorted as corrected.
    text = (place / "predictions.csv").read_text()
    first = rows()[0]
    line = next(each for each in text.splitlines() if each.startswith(first["image"]))
    name = "satellite antenna"
    changed = re.sub(rf"^({re.escape(first['image'])}),[^,]*", rf"\1,{name}", line)
    (place / "predictions.csv").write_text(text.replace(line, changed))
    capsys.readouterr()
    assert predict("--html", "--unknown", "0.5", "--move-to", "sorted") == 0
    told = capsys.readouterr().out
    assert "is finished" in told
    assert f"{len(before)} pictures moved into sorted" in told
    sorted_files = files(place / "sorted")
    assert sorted(sorted_files.values()) == sorted(before.values())
    assert files(place / "photos") == {}
    assert f"{name}/{first['image'].rpartition('/')[2]}" in sorted_files
    for row in rows():
        key = row["image"].rpartition("photos/")[2]
        where = [path for path, value in sorted_files.items() if value == before[key]]
        assert any(path.startswith((row["label"] or "_unknown") + "/") for path in where)

    # Again: all are gone, and that is said; what is new is sorted too, and the page keeps all.
    assert predict("--unknown", "0.5", "--move-to", "sorted") == 0
    assert f"all {len(before)} pictures of photos were moved" in capsys.readouterr().out
    new = place / "photos" / "new.png"
    new.write_bytes(next(iter(before.values())))
    assert predict("--html", "--unknown", "0.5", "--move-to", "sorted") == 0
    told = capsys.readouterr().out
    assert f"1 pictures moved into sorted, {len(before)} sorted before" in told
    page = (place / "predictions.html").read_text()
    assert page.count("<img ") == len(before) + 1
    assert "not readable" not in page

    assert main(["undo", "sorted"]) == 0
    assert not (place / "sorted").exists()
    assert files(place / "photos") == before | {"new.png": next(iter(before.values()))}


def test_links_leave_the_pictures_where_they_are(place, capsys):
    before = files(place / "photos")
    assert predict("--link-to", "sorted", "--out", "answers.jsonl") == 0
    assert files(place / "photos") == before
    linked = list((place / "sorted").rglob("*.png"))
    assert len(linked) == len(before)
    assert all(path.is_symlink() and path.resolve().is_file() for path in linked)
    assert predict("--link-to", "sorted", "--out", "answers.jsonl") == 0
    assert f"0 links to pictures made in sorted, {len(before)} sorted before" in (
        capsys.readouterr().out
    )
    assert main(["undo", "sorted"]) == 0
    assert not (place / "sorted").exists()
    assert files(place / "photos") == before


def test_the_labels_that_would_help_most_are_named_and_stored(place, capsys):
    assert predict("--suggest", "3") == 0
    told = capsys.readouterr().out
    report = json.loads((place / "predictions.report.json").read_text())
    found = report["suggested"]["pictures"]
    assert "doubt" in report["suggested"]["rule"]
    assert report["held_out"]["score"]["asked"] > 0  # the rest of the report is kept
    assert len({one["image"] for one in found}) == 3
    for one in found:
        assert (place / one["image"]).is_file()
        (first, share), (second, less) = one["most_probable"]
        assert share >= less
        assert f"  {one['image']}: {first} {share:.2f}, {second} {less:.2f}" in told
    capsys.readouterr()
    assert predict("--suggest", "99999") == 0  # of a finished table too, all that there are
    report = json.loads((place / "predictions.report.json").read_text())
    assert len(report["suggested"]["pictures"]) == len(rows())
    assert [one["image"] for one in report["suggested"]["pictures"][:3]] == [
        one["image"] for one in found
    ]


def test_what_cannot_be_done_is_said_before_any_work(place, capsys):
    (place / "mine.html").write_text("<p>mine")
    wrong = {
        "leave one of them out": ("--move-to", "a", "--link-to", "b"),
        "go with a table in a file": ("--out", "-", "--html"),
        "is no page of predictions": ("--html", "mine.html"),
        "ends in .html": ("--html", "page.txt"),
        "takes one place": ("--html", "a.html", "b.html"),
        "give the number of pictures": ("--suggest", "-1"),
        "lie in one another": ("--move-to", "photos/sorted"),
    }
    for says, flags in wrong.items():
        assert predict(*flags) == 2
        told = capsys.readouterr().err.strip().splitlines()
        assert says in told[-1], told
        assert len(told) == 1
    assert not list(place.glob("predictions*"))
    assert predict("--move-to", "sorted", "--images", "nothing") == 2
    assert "no such file or folder" in capsys.readouterr().err
