"""The same command again, with more pictures, into other formats and to standard output."""

import csv
import io
import json
import shutil
import sys

import pyarrow.parquet as pq
import pytest
from emoji_folders import write_emoji

from fsclip_jax.cli.main import main
from fsclip_jax.prediction.table import read_rows


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_emoji(tmp_path_factory.mktemp("emoji"), 3)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FSCLIP_CACHE", str(tmp_path_factory.getbasetemp() / "again-cache"))


@pytest.fixture
def images(pictures, tmp_path):
    return shutil.copytree(pictures / "test", tmp_path / "images")


@pytest.fixture
def predict(pictures, images, capsys):
    """Run the command; return its exit code, what it printed, and the lines of the error stream."""

    def run(out, *flags):
        words = ["--support", str(pictures / "train"), "--images", str(images)]
        words += ["--backbone", "mini", "--method", "prototype", "--out", str(out)]
        code = main(["predict", *words, *flags])
        told = capsys.readouterr()
        return code, told.out, told.err.splitlines()

    return run


def listing(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


FORMATS = pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])


@FORMATS
def test_finished_work_is_said_in_a_line_and_left_as_it_is(predict, tmp_path, ending):
    out = tmp_path / f"out.{ending}"
    assert predict(out)[0] == 0
    before = listing(tmp_path)
    count = len(list(read_rows(out)))
    code, told, _ = predict(out)
    assert (code, told.count("\n")) == (0, 1)
    assert told.startswith(f"{out} is finished: it has all {count} pictures")
    assert listing(tmp_path) == before


@FORMATS
def test_new_pictures_are_added_to_a_finished_table(predict, images, tmp_path, ending):
    out, whole = tmp_path / f"out.{ending}", tmp_path / f"whole.{ending}"
    assert predict(whole)[0] == 0
    hidden = sorted(images.rglob("*.png"))[-4:]
    for file in hidden:
        file.rename(file.with_suffix(".later"))
    assert predict(out)[0] == 0
    report = next(tmp_path.glob("out.*report.json"))
    first = json.loads(report.read_text())["pictures"]["lines"]
    for file in hidden:
        file.with_suffix(".later").rename(file)
    code, told, _ = predict(out)
    assert code == 0
    assert f"{first + 4} predictions (4 new)" in told
    assert sorted(read_rows(out)) == sorted(read_rows(whole))
    assert json.loads(report.read_text())["pictures"]["lines"] == first + 4
    assert not list(tmp_path.glob(".out*"))


@FORMATS
def test_another_making_is_refused_until_it_is_told_to_overwrite(predict, tmp_path, ending):
    out = tmp_path / f"out.{ending}"
    assert predict(out)[0] == 0
    before = listing(tmp_path)
    code, told, errors = predict(out, "--top", "1")
    assert (code, told) == (2, "")
    assert "was made with other labelled pictures or settings" in errors[-1]
    assert "--overwrite" in errors[-1]
    assert listing(tmp_path) == before
    assert predict(out, "--top", "1", "--overwrite")[0] == 0
    assert {len(row.ranked) for row in read_rows(out)} == {1}
    assert set(listing(tmp_path)) == set(before)


@pytest.mark.parametrize("spoil", ["unlink", "older"])
def test_a_table_of_unknown_making_is_refused_before_any_work(predict, tmp_path, spoil):
    out, report = tmp_path / "out.csv", tmp_path / "out.report.json"
    assert predict(out)[0] == 0
    if spoil == "unlink":
        report.unlink()
    else:
        old = json.loads(report.read_text())
        del old["made_with"]
        report.write_text(json.dumps(old))
    before = listing(tmp_path)
    code, told, (line,) = predict(out)
    assert (code, told) == (2, "")
    assert "exists already, and no report says what it was made with" in line
    assert line.endswith("or give --overwrite")
    assert listing(tmp_path) == before
    assert predict(out, "--overwrite")[0] == 0


def test_a_table_that_was_edited_by_hand_is_added_to_or_refused(predict, tmp_path):
    out = tmp_path / "out.csv"
    assert predict(out)[0] == 0
    first, second, *_ = read_rows(out)
    lines = out.read_text().splitlines()
    edited = [lines[0], lines[1].replace(f",{first.label},", ",mine,", 1), *lines[3:]]
    out.write_text("\r\n".join(edited))  # a label corrected, a picture removed, no last line feed
    code, told, _ = predict(out)
    assert code == 0
    assert "(1 new)" in told
    rows = list(read_rows(out))
    assert rows[0].label == "mine"
    assert rows[-1] == second
    for spoil in (",x" + lines[1], lines[1].replace("0.", "none.", 1), 'a"b,' + lines[1]):
        out.write_text("\n".join([lines[0], spoil, *lines[2:]]))
        before = out.read_bytes()
        code, told, errors = predict(out)
        assert (code, told) == (2, "")
        assert f"{out}, line 2: " in errors[-1]
        assert out.read_bytes() == before
    out.write_text("\n".join(["\ufeff" + lines[0], *lines[1:]]))
    assert "line 1: predictions begin otherwise" in predict(out)[2][-1]


def test_an_unreadable_picture_is_tried_again_and_told_by_the_exit_code(predict, images, tmp_path):
    out, bad = tmp_path / "out.jsonl", images / "bad.png"
    bad.write_bytes(b"nothing")
    for _ in range(2):
        code, told, _ = predict(out)
        assert code == 1
        assert "1 unreadable" in told
        report = json.loads((tmp_path / "out.jsonl.report.json").read_text())
        assert report["pictures"]["unreadable"] == 1
    shutil.copy(next(images.rglob("*/*.png")), bad)
    code, told, _ = predict(out)
    assert code == 0
    assert "(1 new)" in told


def test_standard_output_has_the_table_and_nothing_else(predict, tmp_path):
    out = tmp_path / "out.csv"
    predict(out)
    code, told, errors = predict("-")
    assert code == 0
    assert told == out.read_text()
    assert any(line.startswith("prototype on mini") for line in errors)
    assert set(listing(tmp_path)) == {"out.csv", "out.report.json"}
    assert predict("-", "--overwrite")[0] == 2


def test_all_formats_say_the_same(predict, images, tmp_path):
    odd = next(images.rglob("*.png"))
    for name in ("line\nfeed.png", "caf\udce9.png", "=1+1 \u202e.png"):
        shutil.copy(odd, images / name)
    for ending in ("csv", "jsonl", "parquet"):
        assert predict(tmp_path / f"out.{ending}")[0] == 0
    table = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    as_json = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    columns = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert as_json == columns
    numbers = [name for name in table[0] if name.startswith(("probability", "similarity"))]
    assert [row | {name: float(row[name]) for name in numbers} for row in table] == as_json
    names = {row.image for row in read_rows(tmp_path / "out.parquet")}
    assert str(images / "caf\udce9.png") in names
    assert str(images / "line\nfeed.png") in names
    assert {row["image"].isprintable() for row in as_json} == {True}


def test_parquet_without_its_package_is_one_line(predict, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    code, told, (line,) = predict(tmp_path / "out.parquet")
    assert (code, told) == (2, "")
    assert "out.parquet needs the package pyarrow" in line
    assert line.endswith("pip install pyarrow")
    assert listing(tmp_path) == {}


@pytest.mark.parametrize(
    ("out", "flags", "says"),
    [
        ("out.txt", (), "give a name that ends in .csv, .jsonl or .parquet, or - for"),
        ("out", (), "give a name that ends in .csv"),
        ("out.jsonl", ("--safe-csv",), "--safe-csv is of tables in CSV"),
        ("out.CSV", ("--top", "0"), "--top is 0"),
    ],
)
def test_what_is_not_written_is_refused_before_any_work(predict, tmp_path, out, flags, says):
    code, told, (line,) = predict(tmp_path / out, *flags)
    assert (code, told) == (2, "")
    assert says in line
    assert listing(tmp_path) == {}
