"""Detections, segmentations and scenes that are killed again and again end as those left alone."""

import json
import os

import pytest
from folders import without_times
from killing import kills_of

from fsclip_jax.cli.main import main


def content(folder):
    """Every file of a folder by name, as bytes or, where times are in it, as its numbers."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix not in (".html", ".md", ".svg"):
            name = file.relative_to(folder).as_posix()
            timed = file.name == "report.json"
            found[name] = (
                without_times(json.loads(file.read_text())) if timed else file.read_bytes()
            )
    return found


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("killed") / "scenes"
    assert main(["scenes", "--out", str(out), "--images", "2"]) == 0
    return out


WORDS = {
    "scenes": ["--images", "2"],
    "detect": ["--seeds", "1", "--shots", "1", "--methods", "zero_shot", "ridge"],
    "segment": ["--seeds", "1", "--shots", "1", "--methods", "zero_shot", "ridge"],
}


@pytest.mark.slow
@pytest.mark.kills
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL and fork are POSIX")
@pytest.mark.parametrize("command", WORDS)
def test_killed_again_and_again_it_goes_on(command, scenes, tmp_path, kills):
    words = [command, "--out", str(tmp_path / "out"), *WORDS[command]]
    words += [] if command == "scenes" else ["--scenes", str(scenes)]
    lines = kills_of("command_child.py", kills, *words)
    assert len(lines) == kills
    whole = scenes
    if command != "scenes":
        whole = tmp_path / "whole"
        assert main([str(whole) if word == str(tmp_path / "out") else word for word in words]) == 0
    expected = content(whole)
    ended = list(tmp_path.glob("out-*"))
    assert ended
    for folder in ended:
        assert content(folder) == expected, folder
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    # It was met with work done, not only before the first part.
    assert max(int(parts) for _, parts in lines) > 1, lines
