"""A disk that is full from any write of any command on: one line, nothing half, and on it goes."""

import json
import shutil
from functools import partial

import every_command
import pytest
from full_disk import full_disk

from fsclip_jax.cli.main import COMMANDS, main
from fsclip_jax.scenes.build import build_scenes

WRITE_NOTHING = {"methods", "backbones", "datasets", "completion", "bank show", "undo"}
SAME_BYTES = {".safetensors", ".csv", ".png", ".py"}
"""Other files say how long a fit took, or from which line of Python they were made."""

ALL = 100
"""So many `--kills` stand for every write."""


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FSCLIP_CACHE", str(tmp_path_factory.getbasetemp() / "full-disk-cache"))


@pytest.fixture(autouse=True)
def few_things(monkeypatch):
    """Two classes a half make every kind of file, and few enough writes to try each."""
    few = partial(build_scenes, per_half=2)
    monkeypatch.setattr("fsclip_jax.scenes.build.build_scenes", few)


def contents(folder):
    """Every file that another run makes byte by byte the same; a report is there or is not."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(part.startswith((".", "tensorboard")) for part in path.parts):
            found[name] = path.read_bytes() if path.suffix in SAME_BYTES else None
            if path.suffix == ".json":
                json.loads(path.read_bytes())
    return {name: value for name, value in found.items() if "checkpoints/" not in name}


def finals(found, whole):
    return {name: value for name, value in found.items() if name in whole}


def rooms(asked, kills):
    """After how many writes the disk is full: none, all but one and some between, or each."""
    count = asked if kills >= ALL else max(2, kills // 2)
    return sorted({round(at * (asked - 1) / (count - 1)) for at in range(count)})


def test_every_command_is_tried():
    assert {name.split()[0] for name in every_command.WORDS} - {"proposals"} == set(COMMANDS)


@pytest.mark.slow
@pytest.mark.kills
@pytest.mark.parametrize("name", sorted(every_command.WORDS.keys() - WRITE_NOTHING))
def test_a_disk_that_is_full(name, files, tmp_path, kills, capfd):
    out = tmp_path / "out"
    words = every_command.words_of(name, files, out)
    with full_disk(tmp_path, room=10**9) as disk:
        assert main(words) == 0
    whole, asked = contents(out), disk.asked
    for room in rooms(asked, kills):
        shutil.rmtree(out)
        capfd.readouterr()
        with full_disk(tmp_path, room) as disk:
            code = main(words)
        told = capfd.readouterr().err
        assert disk.full
        assert code == 2, (room, told, disk.refused)
        assert "Traceback" not in told, (room, told)
        assert "Exception ignored" not in told, (room, told)
        lines = [line for line in told.splitlines() if line.startswith("fsclip: error: ")]
        assert lines == told.splitlines()[-1:], (room, told)
        assert "no space left to write" in lines[0], (room, told)
        left = contents(out)
        assert finals(left, whole) == {key: whole[key] for key in finals(left, whole)}, room
        again = [*words, "--resume"] if name == "train" else words
        assert main(again) == 0, (room, capfd.readouterr().err)
        assert contents(out) == whole, room
