"""Evaluations and suites that are killed at random moments end as those that are left alone."""

import os

import pytest
from folders import content_of_tree
from killing import kills_of


@pytest.mark.slow
@pytest.mark.kills
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL and fork are POSIX")
def test_killed_again_and_again_nothing_is_lost(tmp_path, kills):
    lines = kills_of("suite_child.py", kills, tmp_path)
    for kind in ("eval", "suite"):
        assert len([line for line in lines if line[0] == kind]) == kills
        whole = content_of_tree(tmp_path / f"{kind}-whole")
        assert len(whole) == (2 if kind == "eval" else 2 * 18 + 2)
        assert not [name for name in whole if name.endswith(".tmp")]
        places = [p for p in tmp_path.glob(f"{kind}-*") if p.name != f"{kind}-whole"]
        assert places
        for place in places:
            assert content_of_tree(place) == whole, place
    # Suites were met in many states, not only at their start and end.
    states = {line[-1] for line in lines if line[0] == "suite"}
    assert len(states) >= min(6, kills - 2), lines
