"""Pictures into class folders and back: nothing overwritten, nothing lost, nothing led astray."""

import json
import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from killing import kills_of

from fsclip_jax.cli.main import main
from fsclip_jax.data.folder import is_hidden
from fsclip_jax.errors import UserError
from fsclip_jax.prediction.class_folders import class_folders
from fsclip_jax.prediction.formats import Row
from fsclip_jax.prediction.journal import NAME
from fsclip_jax.prediction.sorting import require_apart, sort_pictures
from fsclip_jax.prediction.undo import undo

SHM = Path("/dev/shm")


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != NAME
    }


def rows_of(home, labels):
    """Files of the same name in folders of their own, with labels."""
    rows = []
    for number, label in enumerate(labels):
        file = home / str(number) / "a.png"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"picture %d" % number)
        rows.append(Row(str(file), label, (("cat", 0.9),), 0.5))
    return rows


@pytest.mark.parametrize("how", ["move", "link"])
def test_pictures_go_into_class_folders_and_back(tmp_path, how):
    rows = rows_of(tmp_path / "home", ["cat", "dog", "cat", "", "unknown"])
    before = tree(tmp_path)
    out = tmp_path / "deep" / "sorted"
    done = sort_pictures(rows, ["cat", "dog", "unknown"], out, how)
    assert (done.count, done.left) == (5, [])
    assert {name: value for name, value in tree(out).items() if value} == {
        "cat/a.png": b"picture 0",
        "cat/a (2).png": b"picture 2",
        "dog/a.png": b"picture 1",
        "unknown/a.png": b"picture 4",
        "_unknown/a.png": b"picture 3",
    }
    moved = [row for row in rows if not Path(row.image).exists()]
    assert len(moved) == (5 if how == "move" else 0)
    again = sort_pictures(rows, ["cat", "dog", "unknown"], out, how)
    assert (again.count, again.before, again.left) == (0, 5, [])
    undone = undo(out)
    assert (undone.back, undone.links, undone.left) == (*((5, 0) if how == "move" else (0, 5)), [])
    assert tree(tmp_path) == before
    assert undo(out) is None


def test_what_lies_there_is_never_overwritten_nor_removed(tmp_path):
    out = tmp_path / "sorted"
    (out / "cat").mkdir(parents=True)
    (out / "cat" / "A.PNG").write_bytes(b"mine")
    rows = rows_of(tmp_path / "home", ["cat", "cat"])
    before = tree(tmp_path)
    sort_pictures(rows, ["cat", "dog"], out, "move")
    assert {name.casefold() for name in tree(out)} == {
        *("cat", "cat/a.png", "cat/a (2).png", "cat/a (3).png")
    }
    assert (out / "cat" / "A.PNG").read_bytes() == b"mine"
    undo(out)
    assert tree(tmp_path) == before  # the folder was there before, and stays


def test_pictures_that_were_changed_removed_or_replaced_are_named_and_left(tmp_path, capsys):
    rows = rows_of(tmp_path / "home", ["cat"] * 6)
    out = tmp_path / "sorted"
    sort_pictures(rows, ["cat", "dog"], out, "move")
    placed = sorted((out / "cat").iterdir(), key=lambda path: path.read_bytes())
    placed[0].write_bytes(b"turned")
    placed[1].unlink()
    Path(rows[2].image).write_bytes(b"another")
    Path(rows[3].image).parent.rmdir()
    (out / "cat" / "note.txt").write_text("mine")
    assert main(["undo", str(out)]) == 1
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert len(lines) == 4
    assert sum("was changed since" in line for line in lines) == 1
    assert sum("was removed since" in line for line in lines) == 1
    assert sum("another file has its place" in line for line in lines) == 1
    assert sum("its folder is gone" in line for line in lines) == 1
    assert "2 pictures are back, 4 left" in told.out
    assert Path(rows[2].image).read_bytes() == b"another"
    Path(rows[2].image).unlink()
    Path(rows[3].image).parent.mkdir()
    assert main(["undo", str(out)]) == 0  # what can go back now does
    assert [Path(rows[at].image).read_bytes() for at in (2, 3)] == [b"picture 2", b"picture 3"]
    assert main(["undo", str(out)]) == 0
    assert "nothing to undo" in capsys.readouterr().out
    assert tree(out) == {"cat": None, f"cat/{placed[0].name}": b"turned", "cat/note.txt": b"mine"}


def test_links_and_pictures_that_are_gone_stay_and_are_told(tmp_path):
    rows = rows_of(tmp_path / "home", ["cat", "cat", "cat"])
    Path(rows[0].image).unlink()
    target = tmp_path / "target.png"
    target.write_bytes(b"there")
    Path(rows[1].image).unlink()
    Path(rows[1].image).symlink_to(target)
    done = sort_pictures([*rows, rows[2]], ["cat", "dog"], tmp_path / "sorted", "move")
    assert done.count == 1
    assert [why for _, why in done.left] == [
        "it is not there any more",
        "it is a link, which --link-to sorts",
    ]
    assert Path(rows[1].image).is_symlink()


def test_a_class_folder_that_is_a_link_is_refused(tmp_path):
    rows = rows_of(tmp_path / "home", ["cat"])
    out = tmp_path / "sorted"
    out.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (out / "cat").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is no folder"):
        sort_pictures(rows, ["cat", "dog"], out, "move")
    assert not any((tmp_path / "elsewhere").iterdir())
    assert Path(rows[0].image).exists()


NAMES = st.text(max_size=300) | st.sampled_from(
    [
        "",
        ".",
        "..",
        "a/b",
        "/etc",
        "con",
        "NUL.txt",
        "a.",
        "a ",
        ".git",
        "lost+found",
        "\0",
        "é",
        "é",
    ]
)


@given(st.lists(NAMES, max_size=8))
def test_any_class_name_is_a_folder_of_its_own(names):
    found = class_folders(names)
    folders = list(found.values())
    assert len({unicodedata.normalize("NFC", each.casefold()) for each in folders}) == len(folders)
    assert set(found) == {*names, ""}
    for folder in folders:
        assert folder not in ("", ".", "..")
        assert not set(folder) & set('/\\\0<>:"|?*\n\r')
        assert len(os.fsencode(folder)) <= 255
        assert not is_hidden(folder)
        assert folder == folder.strip(" ")


def test_names_stay_as_they_are_where_they_can():
    found = class_folders(["hot dog", "Cat", "cat", "a.b", "..", "naïve"])
    assert found == {
        "hot dog": "hot dog", "Cat": "Cat", "cat": "cat (2)", "a.b": "a.b", "..": "__",
        "naïve": "naïve", "": "_unknown",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("images", "out", "flag"),
    [
        ("photos", "photos/sorted", "--link-to"),
        ("photos/new", "photos", "--move-to"),
        ("photos", "labelled/more", "--move-to"),
        ("labelled", "sorted", "--move-to"),
        ("labelled/cat", "sorted", "--move-to"),
        (".", "../sorted", "--move-to"),
    ],
)
def test_pictures_are_not_sorted_into_one_another(tmp_path, monkeypatch, images, out, flag):
    for folder in ("photos/new", "labelled/cat"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        require_apart(Path(out), [Path(images)], Path("labelled"), flag)
    require_apart(Path("fine"), [Path("photos")], Path("labelled"), flag)


def spoiled(out, change):
    lines = (out / NAME).read_text().splitlines()
    (out / NAME).write_text("\n".join(change(lines)) + "\n")


def with_step(**values):
    def change(lines):
        return [
            json.dumps(json.loads(line) | values) if '"step"' in line else line for line in lines
        ]

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[1:],
        lambda lines: [*lines, lines[0]],
        lambda lines: [*lines, "nonsense"],
        lambda lines: [*lines, "[" * 100_000],
        lambda lines: [*lines, '{"is":"step"}'],
        lambda lines: [line.replace('"number":', '"number":1') for line in lines],
        with_step(to="../a.png"),
        with_step(to="cat/../../a.png"),
        with_step(to="/etc/a.png"),
        with_step(to="cat/.."),
        with_step(to="cat/a.sh"),
        with_step(image="a.png"),
        with_step(image="/home/../etc/a.png"),
        with_step(image="/etc/cron.d/job"),
        with_step(image="/a\\x00.png"),
        with_step(size="many"),
        with_step(how="copy"),
        with_step(number=-1, image=3),
    ],
)
def test_a_spoilt_or_hostile_journal_moves_nothing(tmp_path, capsys, change):
    rows = rows_of(tmp_path / "home", ["cat", "dog"])
    out = tmp_path / "sorted"
    sort_pictures(rows, ["cat", "dog"], out, "move")
    spoiled(out, change)
    before = tree(tmp_path)
    assert main(["undo", str(out)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(UserError):
        sort_pictures(rows, ["cat", "dog"], out, "move")
    assert tree(tmp_path) == before


def test_a_journal_that_came_with_a_folder_moves_nothing(tmp_path, capsys):
    rows = rows_of(tmp_path / "home", ["cat"])
    sort_pictures(rows, ["cat", "dog"], tmp_path / "sorted", "move")
    shutil.copytree(tmp_path / "sorted", tmp_path / "got")
    before = tree(tmp_path)
    assert main(["undo", str(tmp_path / "got")]) == 2
    assert "written for another folder" in capsys.readouterr().err
    # Even one whose author guessed the folder's number does not know those of its files.
    spoiled(
        tmp_path / "got",
        lambda lines: [
            json.dumps(json.loads(lines[0]) | {"number": (tmp_path / "got").stat().st_ino}),
            *lines[1:],
        ],
    )
    assert main(["undo", str(tmp_path / "got")]) == 1
    assert {name: value for name, value in tree(tmp_path).items() if value} == {
        name: value for name, value in before.items() if value
    }


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path):
    rows = rows_of(tmp_path / "home", ["cat"])
    before = tree(tmp_path)
    sort_pictures(rows, ["cat", "dog"], tmp_path / "sorted", "move")
    with (tmp_path / "sorted" / NAME).open("a") as file:
        file.write('{"is":"step","how":"mo')
    assert undo(tmp_path / "sorted").back == 1
    assert tree(tmp_path) == before


def test_what_undo_is_given_wrong_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["undo", str(tmp_path / "file")]) == 2
    assert main(["undo"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert main(["undo", str(tmp_path)]) == 0
    assert "nothing to undo" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.kills
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL and fork are POSIX")
@pytest.mark.parametrize("how", ["move", "link", "bare", "across"])
def test_killed_at_any_moment_it_can_be_undone_and_goes_on(how, tmp_path, kills):
    out = tmp_path / "out"
    if how == "across":
        if not SHM.is_dir() or SHM.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is no second file system")
        out = SHM / f"fsclip-{os.getpid()}" / "out"
        out.parent.mkdir()
    try:
        lines = kills_of(
            "sorting_child.py", kills, tmp_path / "home", out, "move" if how == "across" else how
        )
    finally:
        if how == "across":
            shutil.rmtree(out.parent)
    assert len(lines) >= 2
