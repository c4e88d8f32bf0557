"""Evaluations and suites that are killed at random moments end as those that are left alone."""

import json
import os

import pytest
from folders import without_times
from killing import kills_of


def content(folder):
    """Every file of a folder by name, as bytes or, where times are in it, as its numbers."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix not in (".lock", ".html"):
            name = file.relative_to(folder).as_posix()
            json_file = file.suffix == ".json"
            found[name] = without_times(json.loads(file.read_text())) if json_file else None
            found[name] = found[name] if json_file else file.read_bytes()
    return found


@pytest.mark.slow
@pytest.mark.kills
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL and fork are POSIX")
def test_killed_again_and_again_nothing_is_lost(tmp_path, kills):
    lines = kills_of("suite_child.py", kills, tmp_path)
    for kind in ("eval", "suite"):
        assert len([line for line in lines if line[0] == kind]) == kills
        whole = content(tmp_path / f"{kind}-whole")
        assert len(whole) == (2 if kind == "eval" else 2 * 18 + 2)
        assert not [name for name in whole if name.endswith(".tmp")]
        places = [p for p in tmp_path.glob(f"{kind}-*") if p.name != f"{kind}-whole"]
        assert places
        for place in places:
            assert content(place) == whole, place
    # Suites were met in many states, not only at their start and end.
    states = {line[-1] for line in lines if line[0] == "suite"}
    assert len(states) >= min(6, kills - 2), lines
